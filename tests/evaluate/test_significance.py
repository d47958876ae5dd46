"""Paired tests between methods: against the plain functions, and what they must say of made differences."""

import numpy as np
import pandas as pd
import pytest

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.evaluate.bootstrap import interval, paired_image_auroc
from flawline.evaluate.compare import compare, paired_tests
from flawline.evaluate.delong import delong_test
from flawline.evaluate.holm import holm
from flawline.evaluate.significance import COLUMNS, bootstrap_p, read_tests
from flawline.evaluate.tables import write_table
from flawline.files import read_parquet, write_parquet
from flawline.workspace import Cell

from . import evaluated


@pytest.fixture
def line(workspace):
    return workspace, evaluated.lay_out(workspace)


@pytest.fixture
def tests(line):
    workspace, settings = line
    return paired_tests(workspace, settings, evaluated.manifest(), compare(workspace, settings))


def pick(table, **where):
    for key, wanted in where.items():
        table = table[table[key] == wanted]
    assert len(table) == 1
    return table.iloc[0]


def test_what_is_compared(tests):
    assert tests.columns.tolist() == list(COLUMNS)
    asked = set(zip(tests["method"], tests["other"], tests["against"], strict=True))
    assert asked == {
        ("learned", "words", "baseline"), ("learned", "words", "best other"), ("words", "learned", "best other"),
    }  # fmt: skip
    assert set(tests["metric"]) == {"image_auroc", "image_ap", "pixel_auroc", "pixel_ap"}
    assert set(tests["test_set"]) == {"boards", "fabrics", "mean"}
    assert (
        set(tests["seeds"]) == {2} and not tests.duplicated(["method", "against", "test_set", "metric"]).any()
    )


def test_image_auroc_is_of_the_seeds_mean_scores(line, tests):
    settings = line[1]
    order = np.argsort(evaluated.index_of("boards")["image"].to_numpy(dtype=str), kind="stable")
    images = evaluated.index_of("boards").iloc[order]
    scores = {
        method: np.mean([evaluated.scored(method, seed, "boards").scores[order] for seed in (0, 1)], axis=0)
        for method in evaluated.METHODS
    }
    labels, names = images["label"].to_numpy(), images["category"].to_numpy()
    seed = derived_seed("tests", settings.evaluate.seed, "boards")
    pair = paired_image_auroc(labels, names, scores["learned"], scores["words"], 200, seed)
    row = pick(tests, method="learned", against="baseline", test_set="boards", metric="image_auroc")
    assert row["difference"] == pytest.approx(pair.difference) and row["value"] == pytest.approx(
        pair.challenger
    )
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(interval(pair.differences, 0.95))
    area = delong_test(labels, names, scores["learned"], scores["words"])
    assert row["p_delong"] == pytest.approx(area.p) and row["p_bootstrap"] == bootstrap_p(pair.differences)
    assert (row["n_normal"], row["n_anomalous"]) == (16, 32)


def test_a_real_difference_is_found_and_turns_with_the_sides(tests):
    one = pick(tests, method="learned", against="best other", test_set="mean", metric="pixel_auroc")
    other = pick(tests, method="words", against="best other", test_set="mean", metric="pixel_auroc")
    assert one["ci_low"] > 0 and one["p_bootstrap"] < 0.02
    assert other["difference"] == pytest.approx(-one["difference"]) and other["ci_high"] == pytest.approx(
        -one["ci_low"]
    )
    assert other["p_bootstrap"] == one["p_bootstrap"]


def test_holm_goes_over_the_test_sets_alone(tests):
    for metric, source in (("image_auroc", "p_delong"), ("pixel_ap", "p_bootstrap")):
        family = tests[
            (tests["method"] == "learned") & (tests["against"] == "baseline") & (tests["metric"] == metric)
        ]
        single = family[family["test_set"] != "mean"]
        assert single["p_holm"].to_numpy() == pytest.approx(holm(single[source]))
        assert family[family["test_set"] == "mean"]["p_holm"].isna().all()
    assert tests[tests["metric"] != "image_auroc"]["p_delong"].isna().all()


def test_pixel_values_are_the_exact_ones_and_intervals_follow(line):
    workspace, settings = line
    metrics = compare(workspace, settings)
    exact = metrics[metrics["metric"] == "image_auroc"].assign(metric="pixel_auroc")
    exact = exact.assign(value=exact["value"].where(exact["method"] == "words", 0.9))
    before = paired_tests(workspace, settings, evaluated.manifest(), metrics)
    after = paired_tests(workspace, settings, evaluated.manifest(), pd.concat([metrics, exact]))
    where = {"method": "learned", "against": "baseline", "test_set": "boards", "metric": "pixel_auroc"}
    assert pick(after, **where)["value"] == pytest.approx(0.9)
    old, new = pick(before, **where), pick(after, **where)
    moved = new["difference"] - old["difference"]
    assert new["ci_low"] - old["ci_low"] == pytest.approx(moved) and abs(moved) > 1e-3


def test_groups_of_the_image_table_are_kept_together(line, tests):
    workspace, settings = line
    table = evaluated.manifest()
    group = [f"{row // 4}" if name != "castings" else None for row, name in enumerate(table["dataset"])]
    grouped = paired_tests(workspace, settings, table.assign(group=group), compare(workspace, settings))
    where = {"method": "learned", "against": "baseline", "test_set": "boards", "metric": "image_auroc"}
    assert pick(grouped, **where)["difference"] == pick(tests, **where)["difference"]
    assert pick(grouped, **where)["p_delong"] != pick(tests, **where)["p_delong"]
    assert pick(grouped, **where)["ci_low"] != pick(tests, **where)["ci_low"]


def test_a_set_without_masks_has_image_tests_only(line):
    workspace, settings = line
    from safetensors.numpy import load_file, save_file

    for method in evaluated.METHODS:
        for seed in evaluated.SEEDS:
            path = workspace.evaluation(Cell(method, "castings", seed), "boards") / "histograms.safetensors"
            held = load_file(path)
            save_file(held | {"anomalous": np.zeros_like(held["anomalous"])}, path)
    tests = paired_tests(workspace, settings, evaluated.manifest(), compare(workspace, settings))
    assert set(tests[tests["test_set"] == "boards"]["metric"]) == {"image_auroc", "image_ap"}
    # One test set is no mean.
    assert set(tests[tests["metric"] == "pixel_auroc"]["test_set"]) == {"fabrics"}


def test_different_images_are_refused(line):
    workspace, settings = line
    path = workspace.evaluation(Cell("words", "castings", 0), "boards") / "scores.parquet"
    table = read_parquet(path)
    for seed in evaluated.SEEDS:
        write_parquet(
            path.parents[2] / str(seed) / "boards" / "scores.parquet", table.assign(label=1 - table["label"])
        )
    with pytest.raises(FlawlineError, match=r"learned/castings/0/boards and .*words/castings/0/boards"):
        paired_tests(workspace, settings, evaluated.manifest(), compare(workspace, settings))


def test_one_method_alone_makes_an_empty_table(line, tmp_path):
    workspace, settings = line
    tune = settings.tune.model_copy(update={"methods": ["words"]})
    settings = settings.model_copy(update={"tune": tune})
    tests = paired_tests(workspace, settings, evaluated.manifest(), compare(workspace, settings))
    write_table(tmp_path / "tests.csv", tests)
    assert tests.empty and read_tests(tmp_path / "tests.csv").empty


def test_bootstrap_p():
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.ones(99)) == pytest.approx(0.02)
    assert bootstrap_p(np.append(np.ones(99), [np.nan] * 5)) == pytest.approx(0.02)
    assert bootstrap_p(np.concatenate([np.ones(89), -np.ones(10)])) == pytest.approx(0.22)
    assert np.isnan(bootstrap_p(np.asarray([np.nan])))
