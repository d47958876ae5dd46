"""DeLong's test: is one image AUROC larger than another on the same images, without resampling?

An AUROC is a mean over pairs of a defective and a good image, so its variance follows from what each image
contributes to it (DeLong, DeLong and Clarke-Pearson 1988). The contributions are read from midranks, in n log n
instead of all pairs (Sun and Xu 2014). Where images come in groups, the contributions are added up within a group
first (Obuchowski 1997); with every image a group of its own this is DeLong's covariance exactly.

Dimensions: k sets of scores, n images of which P defective and N good.
"""

import math
from dataclasses import dataclass

import numpy as np

from flawline.evaluate.bootstrap import group_numbers


@dataclass(frozen=True)
class Areas:
    """Image AUROCs of k sets of scores on the same images: `values` [k] and their `covariance` [k, k]."""

    values: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class DelongTest:
    """The difference of two macro AUROCs (ours - theirs), its standard error, and the two-sided p-value."""

    difference: float
    error: float
    p: float


def delong(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray | None = None) -> Areas | None:
    """AUROCs with DeLong's covariance.

    Args:
        labels: [n] 0 good or 1 defective.
        scores: [k, n], larger = more anomalous.
        groups: [n] names of groups of images that belong together, null for none; or None.

    Returns:
        The areas, or None where a class has fewer than two images (or groups): no variance can be told then.
    """
    from scipy.stats import rankdata

    truth, scores = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    unit = group_numbers(len(truth), groups)
    with_positives, with_negatives = len(set(unit[truth].tolist())), len(set(unit[~truth].tolist()))
    if min(with_positives, with_negatives) < 2:
        return None
    ranks = rankdata(scores, axis=1)
    # Share of the other class that an image stands on the right side of, ties counting half: [k, P] and [k, N].
    above = (ranks[:, truth] - rankdata(scores[:, truth], axis=1)) / negatives
    below = 1 - (ranks[:, ~truth] - rankdata(scores[:, ~truth], axis=1)) / positives
    values = above.mean(axis=1)
    units = int(unit.max()) + 1
    one = _summed(above - values[:, None], unit[truth], units)
    other = _summed(below - values[:, None], unit[~truth], units)
    mixed = one @ other.T * units / (units - 1)
    covariance = (
        one @ one.T * with_positives / (with_positives - 1) / positives**2
        + other @ other.T * with_negatives / (with_negatives - 1) / negatives**2
        + (mixed + mixed.T) / (positives * negatives)
    )
    return Areas(values, covariance)


def _summed(parts: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """[k, units] sums of [k, m] over the images of each unit."""
    return np.stack([np.bincount(unit, weights=row, minlength=units) for row in parts])


def delong_test(
    labels: np.ndarray,
    categories: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    groups: np.ndarray | None = None,
) -> DelongTest | None:
    """Compare two sets of image scores in AUROC, macro mean over the categories that have both classes.

    Images of different categories are independent, so the variance of the mean is the mean of variances over the
    number of categories.

    Args:
        labels: [n] 0 or 1.
        categories: [n] str.
        ours, theirs: [n] image scores of the same images.
        groups: [n] names within a category, or None; see `delong`.

    Returns:
        The test; None where no category has both classes or one has too few images of a class.
    """
    truth, names = np.asarray(labels).astype(int), np.asarray(categories).astype(str)
    differences, variances = [], []
    for category in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == category)
        if len(set(truth[rows].tolist())) < 2:
            continue
        own = None if groups is None else np.asarray(groups, dtype=object)[rows]
        areas = delong(truth[rows], np.stack([np.asarray(ours)[rows], np.asarray(theirs)[rows]]), own)
        if areas is None:
            return None
        contrast = np.asarray([1.0, -1.0])
        differences.append(float(contrast @ areas.values))
        variances.append(float(contrast @ areas.covariance @ contrast))
    return combine(differences, variances)


def combine(differences: list[float], variances: list[float]) -> DelongTest | None:
    """The test of the mean of independent differences, each with its variance; None for none."""
    if not differences:
        return None
    difference = float(np.mean(differences))
    error = math.sqrt(max(0.0, sum(variances))) / len(variances)
    return DelongTest(difference, error, two_sided(difference, error))


def two_sided(difference: float, error: float) -> float:
    """p of a normal deviate `difference / error`; 1 where nothing differs, also without any spread."""
    if abs(difference) < 1e-12:
        return 1.0
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error > 1e-12 else 0.0
