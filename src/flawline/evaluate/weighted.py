"""Metrics under image weights, for all bootstrap resamples at once.

A weight says how often an image was drawn. Every function takes weights [B, n] and returns [B] values per
metric, NaN where a resample lacks one of the two classes. With all weights 1 the image metrics equal
scikit-learn's and the pixel metrics those of the binned scores.
"""

import numpy as np

from flawline.evaluate.histograms import PixelHistograms


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


def weighted_pixel_metrics(histograms: PixelHistograms, weights: np.ndarray) -> dict[str, np.ndarray]:
    """pixel_auroc, pixel_ap and pixel_f1_max of each resample, from histogram sums.

    Args:
        histograms: of n images.
        weights: [B, n].
    """
    found, passed = _from_the_top(weights, histograms.anomalous), _from_the_top(weights, histograms.normal)
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
    alarms = np.cumsum(_from_the_top(weights, histograms.normal), axis=1)
    covered = np.cumsum(_from_the_top(weights, overlap), axis=1)
    good, total = alarms[:, -1], weights.astype(np.float64) @ regions
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr = np.pad(alarms / good[:, None], ((0, 0), (1, 0)))
        pro = np.pad(covered / total[:, None], ((0, 0), (1, 0)))
        width = np.diff(fpr, axis=1)
        # The part of each trapezoid left of the limit, and the curve's height where it ends.
        kept = np.clip(limit - fpr[:, :-1], 0, width)
        rise = np.nan_to_num(np.diff(pro, axis=1) * kept / width)
        area = np.sum(kept * (pro[:, :-1] + rise / 2), axis=1) / limit
    return np.where((good > 0) & (total > 0), area, np.nan)


def _from_the_top(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[B, bins] weighted sums over images, highest bin first; float64 holds pixel counts exactly."""
    return (weights.astype(np.float64) @ counts.astype(np.float64))[:, ::-1]
