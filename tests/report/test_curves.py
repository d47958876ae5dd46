"""Training curves: the stages of a method follow each other on one axis."""

import pandas as pd

from flawline.report.curves import _one_axis


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
