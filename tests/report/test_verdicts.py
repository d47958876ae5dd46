import numpy as np
import pandas as pd
import pytest

from flawline.evaluate.significance import COLUMNS, read_tests
from flawline.report.gather import gather
from flawline.report.verdicts import comparisons, p_text


def written(workspace, rows):
    base = dict.fromkeys(COLUMNS, "") | {"train_set": "castings", "metric": "image_auroc", "seeds": 3}
    base |= {"value": 0.8, "other_value": 0.7, "difference": 0.1, "n_normal": 9, "n_anomalous": 9}
    table = pd.DataFrame([base | row for row in rows], columns=list(COLUMNS))
    table.to_csv(workspace.results / "tests.csv", index=False)


def row(test, low, high, p, other="words", against="baseline", method="human_free"):
    place = {"method": method, "other": other, "against": against, "test_set": test}
    where = "p_bootstrap" if test == "mean" else "p_holm"
    return place | {"ci_low": low, "ci_high": high, where: p, "difference": (low + high) / 2}


def test_numbers_are_those_of_tests_csv(made):
    workspace, settings = made
    table = read_tests(workspace.results / "tests.csv")
    found = comparisons(gather(workspace, settings))
    assert [one.metric for one in found] == ["image_auroc", "image_ap", "pixel_auroc", "pixel_ap"]
    first = found[0]
    assert {one.method for one in first.against_baseline} == {"human_free", "dapo", "patch_memory"}
    assert [one.test for one in first.against_best] == ["mean"] * 4
    one = first.against_baseline[0]
    [mine] = table[
        (table["method"] == one.method) & (table["metric"] == "image_auroc") & (table["test_set"] == "mean")
        & (table["against"] == "baseline")
    ].to_dict("records")  # fmt: skip
    assert one.value == f"{mine['value']:.3f}" and one.other == "words"
    assert one.difference.replace("−", "-") == f"{mine['difference']:+.3f}"
    assert one.p == p_text(mine["p_delong"]) and not np.isnan(mine["p_delong"])
    assert [test for test, _ in one.apart] == ["boards", "fabrics"]


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.02, 0.2, 0.01, "better"),
        (-0.2, -0.02, 0.01, "worse"),
        (-0.02, 0.2, 0.01, "open"),  # the interval holds 0
        (0.02, 0.2, 0.06, "open"),  # corrected for several test sets it is no longer rare
        (0.02, 0.2, 0.05, "open"),
        (0.02, 0.2, "", "open"),  # nobody knows p
    ],
)
def test_better_only_where_interval_and_p_say_so(made, low, high, p, verdict):
    workspace, settings = made
    written(workspace, [row("boards", low, high, p)])
    [found] = comparisons(gather(workspace, settings))
    assert [one.verdict for one in found.against_baseline] == [verdict]


def test_a_mean_tells_what_the_single_sets_say(made):
    workspace, settings = made
    rows = [row("boards", 0.01, 0.2, 0.001), row("fabrics", -0.1, 0.1, 0.8), row("mean", -0.01, 0.1, 0.2)]
    # The baseline is the best other as well: each test set is listed once.
    written(workspace, [*rows, *(one | {"against": "best other"} for one in rows)])
    [found] = comparisons(gather(workspace, settings))
    [over] = found.against_baseline
    assert over.test == "mean" and over.verdict == "open"
    assert over.apart == [("boards", "better"), ("fabrics", "open")]
    assert [(one.test, one.other) for one in found.single] == [("boards", "words"), ("fabrics", "words")]


def test_the_gates_metric_stands_first(made):
    workspace, settings = made
    gate = settings.gate.model_copy(update={"better_in": "pixel_auroc"})
    results = gather(workspace, settings.model_copy(update={"gate": gate}))
    assert comparisons(results)[0].metric == "pixel_auroc"


def test_no_tests_no_section(made):
    workspace, settings = made
    (workspace.results / "tests.csv").unlink()
    assert comparisons(gather(workspace, settings)) == []


def test_small_p_is_no_zero():
    assert [p_text(p) for p in (0.0004, 0.031, float("nan"))] == ["< 0.001", "0.031", ""]
