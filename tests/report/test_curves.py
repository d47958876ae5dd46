"""Training curves: the stages of a method follow each other on one axis."""

import numpy as np
import pandas as pd

from flawline.report import curves as room
from flawline.report.curves import _mean_line, _one_axis, training_plots
from flawline.report.pictures import Budget


def test_steps_of_a_stage_count_on_from_the_stage_before() -> None:
    rows = [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("a", 1), ("c", 0)]  # in the order they ran, not by name
    table = pd.DataFrame(
        [(stage, step, quantity, 1.0) for stage, step in rows for quantity in ("total", "guide")],
        columns=["stage", "step", "quantity", "value"],
    )
    found = _one_axis(table)
    assert found.loc[found["quantity"] == "total", "step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.loc[found["quantity"] == "guide", "step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["value"].equals(table["value"])


def test_the_band_runs_from_the_lowest_to_the_highest_seed() -> None:
    low, high = ([0.0, 1.0], [0.0, 0.6]), ([0.0, 1.0], [0.2, 1.0])
    line = _mean_line([[low, high], [high, high]], np.asarray([0.0, 0.5, 1.0]), "a", 1, 2.0)
    assert line.x == [0.0, 0.0, 0.5, 1.0]  # from the corner straight up
    assert line.band is not None
    assert np.allclose(line.band[0], [0, 0.1, 0.45, 0.8]) and np.allclose(line.band[1], [0, 0.2, 0.6, 1.0])
    assert np.allclose(line.y, [0, 0.15, 0.525, 0.9])


def test_one_seed_has_no_band() -> None:
    assert _mean_line([[([0.0, 1.0], [0.0, 1.0])]], np.asarray([0.0, 1.0]), "a", 1, 2.0).band is None


def test_the_shown_methods_training_stands_first_and_all_is_counted(results, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    found, left_out = training_plots(results, Budget())
    assert [(one.name, one.shown, len(one.pictures)) for one in found] == [
        ("human_free", True, 3),
        ("dapo", False, 1),
    ]
    assert left_out == 0
    monkeypatch.setattr(room, "MAX_TRAINING_PLOTS", 2)
    found, left_out = training_plots(results, Budget())
    assert [len(one.pictures) for one in found] == [2] and left_out == 2


def test_training_that_does_not_fit_is_counted(results) -> None:  # type: ignore[no-untyped-def]
    every, _ = training_plots(results, Budget())
    budget = Budget(left=every[0].pictures[0].size + 10)
    found, left_out = training_plots(results, budget)
    assert [len(one.pictures) for one in found] == [1] and left_out == 3 and budget.left == 10
