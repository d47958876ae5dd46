"""Holm's correction against a plain step-down and a worked example."""

import numpy as np
import pytest

from flawline.evaluate.holm import holm


def rejects(p_values: list[float], level: float) -> list[bool]:
    """The procedure as it is told: smallest first, each against level / (tests left), stop at the first miss."""
    answer = [False] * len(p_values)
    for step, which in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[which] > level / (len(p_values) - step):
            break
        answer[which] = True
    return answer


def test_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(5))
def test_the_same_decisions_as_stepping_down(seed: int) -> None:
    given = np.random.default_rng(seed).beta(0.3, 2, 12).tolist()
    for level in (0.01, 0.05, 0.2):
        assert (holm(given) <= level).tolist() == rejects(given, level)


def test_bounds_order_and_absent_tests() -> None:
    adjusted = holm([0.4, float("nan"), 0.5])
    assert np.isnan(adjusted[1]) and adjusted[[0, 2]] == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.8]).max() == 1 and holm([0.3]).tolist() == [0.3] and holm([]).size == 0
    assert np.isnan(holm([float("nan")])).all()
    with pytest.raises(ValueError, match="outside"):
        holm([1.2])
