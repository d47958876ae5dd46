import pandas as pd

from flawline.report.gather import gather
from flawline.report.kinds import confusions, kind_tables, split


def test_each_type_stands_once_with_what_finds_and_names_it(results):
    boards, fabrics = kind_tables(results)
    assert (boards.found, boards.named) == ("human_free", "dapo")
    places = [(row.category, row.defect) for row in boards.rows]
    assert places == [(c, d) for c in ("chips", "connectors", "pads") for d in ("scratch", "spot")]
    assert all(len(row.values) == 6 and row.images == 4 for row in [*boards.rows, *fabrics.rows])
    pads = boards.rows[-1].values
    assert pads[1].value is not None and pads[2].value is None and "mask" in pads[2].why
    metrics = results.metrics[(results.metrics.method == "dapo") & (results.metrics.seed == "mean")]
    mine = metrics[
        (metrics.test_set == "boards") & (metrics.category == "chips") & (metrics.defect == "spot")
    ]
    [accuracy] = mine[mine.metric == "type_accuracy"]["value"]
    assert boards.rows[1].values[4].text == f"{accuracy:.3f}"


def test_types_of_the_training_set_are_seen(made):
    workspace, settings = made
    found = kind_tables(gather(workspace, settings))[0]
    assert {(row.defect, row.seen) for row in found.rows} == {("scratch", True), ("spot", False)}
    workspace.manifest.unlink()
    assert {row.seen for row in kind_tables(gather(workspace, settings))[0].rows} == {None}


def test_seen_and_novel_types_are_split(results):
    found = split(results)
    assert found.sides == ["seen types", "novel types"]
    assert found.metrics[0] == "image_auroc" and [row.group for row in found.rows[:4]] == ["mean"] * 4
    table = results.metrics[(results.metrics.seed == "mean") & (results.metrics.test_set == "fabrics")]
    [value] = table[
        (table.defect == "novel types") & (table.metric == "image_auroc") & (table.method == "words")
    ]["value"]
    [row] = [row for row in found.rows if (row.group, row.name) == ("fabrics", "words")]
    assert row.values[len(found.metrics)].text == f"{value:.3f}"


def test_without_a_split_there_is_no_table(made):
    workspace, settings = made
    table = pd.read_csv(workspace.metrics, dtype={"seed": str})
    table[~table["defect"].str.endswith(" types")].to_csv(workspace.metrics, index=False)
    assert split(gather(workspace, settings)) is None


def test_confusion_counts_every_image_of_every_seed(results):
    named, served = confusions(results, at_threshold=False), confusions(results, at_threshold=True)
    assert [(one.method, one.test, one.seeds) for one in named] == [
        ("dapo", "boards", 3),
        ("dapo", "fabrics", 3),
    ]
    for one, good_row in ((named[0], False), (served[0], True)):
        assert [name for name, *_ in one.rows] == ["scratch", "spot", *(["good"] if good_row else [])]
        assert [total for _, total, _ in one.rows] == [3 * 3 * 4] * len(one.rows)
        assert all(sum(share.count for share in shares) == total for _, total, shares in one.rows)
        assert all(abs(sum(share.percent for share in shares) - 100) <= 2 for *_, shares in one.rows)
    assert served[0].columns == ["scratch", "spot", "good"]
    diagonal = [[share.right for share in shares] for *_, shares in served[0].rows]
    assert diagonal == [[True, False, False], [False, True, False], [False, False, True]]


def test_the_diagonal_is_the_type_accuracy(results):
    fabrics = confusions(results, at_threshold=False)[1]
    right = sum(share.count for *_, shares in fabrics.rows for share in shares if share.right)
    table = results.metrics[(results.metrics.method == "dapo") & (results.metrics.metric == "type_accuracy")]
    table = table[(table.test_set == "fabrics") & (table.category == "mean") & (table.seed == "mean")]
    # As many images in each category, so the mean over categories is that over images.
    assert abs(right / (2 * 2 * 4 * 3) - table[table.defect == "all"]["value"].iloc[0]) < 1e-6


def test_no_method_knows_types(made):
    workspace, settings = made
    tune = settings.tune.model_copy(update={"methods": ["words", "human_free"]})
    results = gather(workspace, settings.model_copy(update={"tune": tune}))
    # Its numbers may still stand in metrics.csv of an earlier run, its cells do not.
    assert confusions(results, at_threshold=True) == []
