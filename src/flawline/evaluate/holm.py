"""Holm's correction: several tests, one error rate."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values adjusted for having looked at all of them (Holm 1979, step-down).

    The chance that any true null hypothesis of the family is rejected at level a by `adjusted <= a` is at most a,
    whatever the tests have to do with each other.

    Args:
        p_values: [m] in 0..1; NaN stands for a test that could not be made and does not count.

    Returns:
        [m] adjusted p-values in 0..1, NaN where the input is; never smaller than the input.
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    if np.any((given[known] < 0) | (given[known] > 1)):
        raise ValueError("a p-value is outside 0..1")
    order = known[np.argsort(given[known], kind="stable")]
    stepped = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted
