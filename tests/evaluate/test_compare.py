import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.compare import compare, leaderboard, with_means
from flawline.evaluate.tables import COLUMNS, read_metrics, write_metrics
from flawline.settings import load_settings
from flawline.workspace import Cell


def rows(method, seed, test, value, metrics=("image_auroc", "pixel_auroc", "aupro")):
    made = []
    for metric in metrics:
        for category, defect in (("a", "all"), ("a", "crack"), ("mean", "all")):
            made.append(
                [
                    method,
                    str(seed),
                    "castings",
                    test,
                    category,
                    defect,
                    metric,
                    value,
                    value - 0.1,
                    value + 0.1,
                    5,
                    7,
                ]
            )
    return made


@pytest.fixture
def table():
    made = []
    for seed, value in ((0, 0.6), (1, 0.7), (10, 0.8)):
        made += rows("words", seed, "boards", value)
        made += rows("words", seed, "fabrics", value + 0.1, ("image_auroc",))
        made += rows("human_free", seed, "boards", value + 0.05)
    return pd.DataFrame(made, columns=list(COLUMNS))


def pick(table, **where):
    for key, wanted in where.items():
        table = table[table[key] == wanted]
    assert len(table) == 1
    return table.iloc[0]


def test_means_over_seeds_carry_the_smallest_and_largest(table):
    one = pick(
        with_means(table),
        method="words",
        seed="mean",
        test_set="boards",
        category="a",
        defect="crack",
        metric="aupro",
    )
    assert (one["value"], one["ci_low"], one["ci_high"]) == pytest.approx((0.7, 0.6, 0.8))
    assert (one["n_normal"], one["n_anomalous"]) == (5, 7)


def test_means_over_test_sets(table):
    full = with_means(table)
    one = pick(full, method="words", seed="1", test_set="mean", metric="image_auroc")
    assert one["value"] == pytest.approx(0.75) and one["n_normal"] == 10
    assert pd.isna(one["ci_low"]) and one["category"] == "mean"
    both = pick(full, method="words", seed="mean", test_set="mean", metric="image_auroc")
    assert (both["value"], both["ci_low"], both["ci_high"]) == pytest.approx((0.75, 0.65, 0.85))


def test_a_metric_absent_in_one_set_is_the_mean_of_the_others(table):
    one = pick(with_means(table), method="words", seed="0", test_set="mean", metric="pixel_auroc")
    assert one["value"] == pytest.approx(0.6) and one["n_normal"] == 5


def test_sorted_by_number_with_means_last(table):
    full = with_means(table.sample(frac=1, random_state=0))
    words = full[(full.method == "words") & (full.test_set == "boards")]
    assert words["seed"].unique().tolist() == ["0", "1", "10", "mean"]
    assert full[full.method == "words"]["test_set"].unique().tolist() == ["boards", "fabrics", "mean"]
    assert full.equals(with_means(table))


def test_text_is_exact_and_survives_a_round_trip(table, tmp_path):
    path = tmp_path / "metrics.csv"
    write_metrics(path, with_means(table))
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "human_free,0,castings,boards,a,all,aupro,0.650000,0.550000,0.750000,5,7"
    assert any(",mean,mean,all,image_auroc,0.750000,,," in line for line in lines)
    again = tmp_path / "again.csv"
    write_metrics(again, read_metrics(path))
    assert again.read_bytes() == path.read_bytes()


def test_names_that_look_like_missing_values_survive(table, tmp_path):
    table["category"] = table["category"].replace("a", "NA")
    table["defect"] = table["defect"].replace("crack", "None")
    write_metrics(tmp_path / "m.csv", table)
    back = read_metrics(tmp_path / "m.csv")
    assert {"NA", "None"} <= {*back["category"], *back["defect"]}


def test_leaderboard(table):
    board = leaderboard(with_means(table))
    assert board.columns.tolist() == [
        "train_set",
        "test_set",
        "method",
        "image_auroc",
        "pixel_auroc",
        "aupro",
    ]
    assert board["test_set"].tolist() == ["boards", "boards", "fabrics", "mean", "mean"]
    assert board["method"].tolist()[:2] == ["human_free", "words"]
    assert board.iloc[1]["image_auroc"] == "0.700 ± 0.100"
    assert board.iloc[2]["aupro"] == "–"


def test_leaderboard_of_one_seed_has_no_spread(table):
    one = leaderboard(with_means(table[table.seed == "0"]))
    assert "±" not in "".join(one["image_auroc"])


def test_an_empty_table_makes_an_empty_board():
    assert leaderboard(pd.DataFrame(columns=list(COLUMNS))).empty


def test_only_named_cells_count_and_a_missing_one_is_named(workspace, table):
    settings = load_settings(workspace.params)
    write_metrics(workspace.evaluation(Cell("old", "castings", 0), "boards") / "metrics.csv", table)
    with pytest.raises(FlawlineError, match=r"words.castings.0.boards"):
        compare(workspace, settings)
    for method in settings.tune.methods:
        for seed in settings.tune.seeds:
            for test in settings.data.test:
                cell = pd.DataFrame(rows(method, seed, test, 0.5), columns=list(COLUMNS))
                write_metrics(
                    workspace.evaluation(Cell(method, "castings", seed), test) / "metrics.csv", cell
                )
    full = compare(workspace, settings)
    assert set(full["method"]) == set(settings.tune.methods)
    assert len(full) == len(settings.tune.methods) * 4 * (2 * 9 + 3)


def test_a_broken_table_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("method,seed\nwords,0\n")
    with pytest.raises(FlawlineError, match=r"metrics\.csv lacks the column train_set"):
        read_metrics(path)
    path.write_text("")
    with pytest.raises(FlawlineError, match="not a metrics table"):
        read_metrics(path)


def test_seen_and_novel_types_have_means_over_the_test_sets(table):
    types = table[(table["metric"] == "aupro") & (table["category"] == "mean")].assign(defect="novel types")
    full = with_means(pd.concat([table, types, types.assign(test_set="fabrics", value=0.2)]))
    one = pick(full, method="human_free", seed="1", test_set="mean", defect="novel types", metric="aupro")
    assert one["value"] == pytest.approx((0.75 + 0.2) / 2)
    assert full[(full["test_set"] == "mean") & (full["defect"] == "crack")].empty
