"""Metrics under image weights, for all bootstrap resamples at once.

A weight says how often an image was drawn. Every function takes weights [B, n] and returns [B] values per
metric, NaN where a resample lacks one of the two classes. With all weights 1 the image metrics equal
scikit-learn's and the pixel metrics those of the binned scores.
"""

from dataclasses import dataclass

import numpy as np

from flawline.evaluate.histograms import PixelHistograms, SpooledHistograms


def weighted_image_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """image_auroc, image_ap and image_f1_max of each resample.

    Args:
        labels: [n] 0 or 1.
        scores: [n].
        weights: [B, n], not negative.
    """
    truth = np.asarray(labels).astype(bool)
    scores = np.asarray(scores, dtype=np.float64)
    good, bad = np.flatnonzero(~truth), np.flatnonzero(truth)
    good = good[np.argsort(scores[good], kind="stable")]
    bad = bad[np.argsort(-scores[bad], kind="stable")]
    bad_weight = weights[:, bad].astype(np.float64)
    below = np.cumsum(np.pad(weights[:, good].astype(np.float64), ((0, 0), (1, 0))), axis=1)
    left = np.searchsorted(scores[good], scores[bad], side="left")
    right = np.searchsorted(scores[good], scores[bad], side="right")
    last_of_tie = np.searchsorted(-scores[bad], -scores[bad], side="right") - 1
    hits = np.cumsum(bad_weight, axis=1)[:, last_of_tie]
    alarms = below[:, -1:] - below[:, left]
    total_bad, total_good = bad_weight.sum(1), below[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = np.sum(bad_weight * (below[:, left] + below[:, right]), axis=1) / (2 * total_bad * total_good)
        precision = np.nan_to_num(hits / (hits + alarms))
        ap = np.sum(bad_weight * precision, axis=1) / total_bad
        f1 = np.max(2 * hits / (total_bad[:, None] + hits + alarms), axis=1, initial=0.0)
    defined = (total_bad > 0) & (total_good > 0)
    return {
        "image_auroc": np.where(defined, auroc, np.nan),
        "image_ap": np.where(defined, ap, np.nan),
        "image_f1_max": np.where(defined, f1, np.nan),
    }


@dataclass(frozen=True)
class PixelSums:
    """Weighted sums of histograms over images, lowest bin first, for B resamples.

    Attributes:
        passed, found: [B, bins] good and defective pixels. covered: [B, bins] sums of region overlaps.
        regions: [B] how many regions.
    """

    passed: np.ndarray
    found: np.ndarray
    covered: np.ndarray
    regions: np.ndarray


def spooled_sums(held: SpooledHistograms, rows: np.ndarray, weights: np.ndarray) -> PixelSums:
    """The sums over the images `rows` [k] under weights [B, k], read from disk in parts."""
    bins, factor = held.normal.shape[1], weights.astype(np.float64)
    passed, found, covered = (np.zeros((len(weights), bins)) for _ in range(3))
    for part, counts in held.normal.blocks(rows):
        passed += factor[:, part] @ counts.astype(np.float64)
    bad = np.flatnonzero(held.regions[rows])
    for part, counts in held.anomalous.blocks(rows[bad]):
        found += factor[:, bad[part]] @ counts.astype(np.float64)
    for part, shares in held.overlap.blocks(rows[bad]):
        covered += factor[:, bad[part]] @ shares
    return PixelSums(passed, found, covered, factor @ held.regions[rows])


def weighted_pixel_metrics(histograms: PixelHistograms, weights: np.ndarray) -> dict[str, np.ndarray]:
    """pixel_auroc, pixel_ap and pixel_f1_max of each resample, from histogram sums.

    Args:
        histograms: of n images.
        weights: [B, n].
    """
    found, passed = _summed(weights, histograms.anomalous), _summed(weights, histograms.normal)
    return pixel_metrics_of(PixelSums(passed, found, found, np.zeros(len(weights))))


def pixel_metrics_of(sums: PixelSums) -> dict[str, np.ndarray]:
    """pixel_auroc, pixel_ap and pixel_f1_max [B]; NaN where one kind of pixels is missing."""
    found, passed = sums.found[:, ::-1], sums.passed[:, ::-1]
    hits, alarms = np.cumsum(found, axis=1), np.cumsum(passed, axis=1)
    bad, good = hits[:, -1], alarms[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        outranked = good[:, None] - alarms + passed / 2
        auroc = np.sum(found * outranked, axis=1) / (bad * good)
        ap = np.sum(found * np.nan_to_num(hits / (hits + alarms)), axis=1) / bad
        f1 = np.max(2 * hits / (bad[:, None] + hits + alarms), axis=1, initial=0.0)
    defined = (bad > 0) & (good > 0)
    return {
        "pixel_auroc": np.where(defined, auroc, np.nan),
        "pixel_ap": np.where(defined, ap, np.nan),
        "pixel_f1_max": np.where(defined, f1, np.nan),
    }


def weighted_aupro(
    histograms: PixelHistograms, overlap: np.ndarray, regions: np.ndarray, weights: np.ndarray, limit: float
) -> np.ndarray:
    """AUPRO of each resample [B], from histogram sums.

    Args:
        histograms: of n images.
        overlap, regions: [n, bins] and [n], from `region_histograms`.
        weights: [B, n].
        limit: false-positive rate where the area ends.
    """
    passed = _summed(weights, histograms.normal)
    return aupro_of(PixelSums(passed, passed, _summed(weights, overlap), weights @ regions), limit)


def aupro_of(sums: PixelSums, limit: float) -> np.ndarray:
    """AUPRO [B] up to the limit; NaN without good pixels or without regions."""
    alarms = np.cumsum(sums.passed[:, ::-1], axis=1)
    covered = np.cumsum(sums.covered[:, ::-1], axis=1)
    good, total = alarms[:, -1], sums.regions
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr = np.pad(alarms / good[:, None], ((0, 0), (1, 0)))
        pro = np.pad(covered / total[:, None], ((0, 0), (1, 0)))
        width = np.diff(fpr, axis=1)
        # The part of each trapezoid left of the limit, and the curve's height where it ends.
        kept = np.clip(limit - fpr[:, :-1], 0, width)
        rise = np.nan_to_num(np.diff(pro, axis=1) * kept / width)
        area = np.sum(kept * (pro[:, :-1] + rise / 2), axis=1) / limit
    return np.where((good > 0) & (total > 0), area, np.nan)


def aupro_200_of(sums: PixelSums, edges: np.ndarray, thresholds: np.ndarray, limit: float) -> np.ndarray:
    """The papers' AUPRO [B] with the thresholds of the whole test set; NaN where it is not defined.

    Within a bin the scores count as evenly spread. The thresholds hang on two extreme pixels; they are left where they
    are, so that the interval tells of the images and not of those two.

    Args:
        sums: of each resample.
        edges: [bins + 1] of the histograms.
        thresholds: [k] rising, from `papers_thresholds`.
        limit: false-positive rate below which points count.
    """
    bins = sums.passed.shape[1]
    # How many bins lie below each threshold, with the part of its own.
    place = np.interp(thresholds, edges.astype(np.float64), np.arange(bins + 1.0))
    at = np.minimum(place.astype(np.int64), bins - 1)
    below = place - at
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr = 1 - _share_below(sums.passed, at, below, sums.passed.sum(1))
        pro = 1 - _share_below(sums.covered, at, below, sums.regions)
        kept = fpr < limit
        # Rates fall as thresholds rise, so what is kept is the end; each step between two kept points counts.
        step, height = fpr[:, :-1] - fpr[:, 1:], (pro[:, :-1] + pro[:, 1:]) / 2
        both = kept[:, :-1] & kept[:, 1:]
        length = np.sum(step * both, axis=1)
        area = np.sum(step * height * both, axis=1) / length
    return np.where(length > 0, area, np.nan)


def _share_below(counts: np.ndarray, at: np.ndarray, below: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[B, k] the part of the counts that lies below `at` whole bins and `below` of the next."""
    running = np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
    return (running[:, at] + below * counts[:, at]) / total[:, None]


def _summed(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[B, bins] weighted sums over images; float64 holds pixel counts exactly."""
    return np.asarray(weights.astype(np.float64) @ counts.astype(np.float64))
