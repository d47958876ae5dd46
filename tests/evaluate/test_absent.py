import numpy as np
import pandas as pd

from flawline.evaluate.absent import NOWHERE, Absences
from flawline.evaluate.measure import Measured, Measurement

ONE = Measured(0.5, np.zeros(3), 1, 1)
INDEX = pd.DataFrame({"category": ["a", "a", "b", "b"], "label": [0, 1, 1, 1]})


def test_reasons_by_group_and_what_is_nowhere():
    absences = Absences()
    absences.note("a", "all", Measurement({"x": ONE}, {"y": "no mask", "z": "no mask"}))
    absences.note("a", "dent", Measurement({}, {"x": "too few", "y": "no mask"}), only=("x",))
    absences.note("b", "all", Measurement({"x": ONE, "y": ONE}, {"z": "too few"}))
    record = absences.record(INDEX, np.asarray([True, False, False, False]))
    assert record["absent"] == [
        {"category": "a", "defect": "all", "metrics": ["y", "z"], "reason": "no mask"},
        {"category": "a", "defect": "dent", "metrics": ["x"], "reason": "too few"},
        {"category": "b", "defect": "all", "metrics": ["z"], "reason": "too few"},
        {"category": "mean", "defect": "all", "metrics": ["z"], "reason": NOWHERE},
    ]
    assert [(row["category"], row["images"]) for row in record["left_out"]] == [("a", 1), ("b", 2)]
    assert all("mask" in row["reason"] for row in record["left_out"])


def test_a_good_image_that_is_not_used_is_not_left_out():
    assert Absences().record(INDEX, np.asarray([False, True, True, True])) == {
        "absent": [],
        "left_out": [],
        "rough": [],
    }


def test_only_what_is_off_by_more_than_promised_is_rough():
    absences = Absences()
    absences.rough("a", 9e-5)
    absences.rough("b", 2e-4)
    assert absences.record(INDEX, np.ones(4, bool))["rough"] == [{"category": "b", "bound": 2e-4}]
