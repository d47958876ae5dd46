"""All pixels of a category, ranked once: what every exact pixel metric is read from.

Good pixels outnumber defective ones by far, so the good ones are only sorted by value (no index array); each
distinct defective score is then looked up among them. Memory: the pooled float32 scores plus a few arrays
as long as the defective pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class PixelRanking:
    """Counts at every threshold that a defective pixel takes, from the highest to the lowest.

    Between two such thresholds only good pixels are passed, so nothing is lost: no metric here has its
    optimum or a change of slope there.

    Attributes:
        hits: [k] defective pixels with score >= threshold.
        alarms: [k] good pixels with score >= threshold.
        alarms_above: [k] good pixels with score > threshold; differs from `alarms` by the ties.
        coverage: [k] mean over all regions of the part of the region with score >= threshold.
        anomalous, normal, regions: totals.
        spread: [k] bool where the counts are those of bins: whether the bin's scores differ, so that its pixels
            are passed one after another; None where each threshold is one score.
    """

    hits: np.ndarray
    alarms: np.ndarray
    alarms_above: np.ndarray
    coverage: np.ndarray
    anomalous: int
    normal: int
    regions: int
    spread: np.ndarray | None = None


def region_share(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """What each defective pixel counts for its region.

    Args:
        mask: [h, w] bool.

    Returns:
        [h, w] float64, 1 / (pixels of the pixel's 8-connected region), 0 outside; and the number of regions.
    """
    shares = np.zeros(mask.shape)
    if not mask.any():
        return shares, 0
    # Labelling costs more than all else here, and defects are small: only their surroundings are labelled.
    inside = tuple(_span(np.asarray(mask.any(axis=1 - axis))) for axis in (0, 1))
    labels, count = ndimage.label(mask[inside], structure=EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    areas[0] = np.inf
    shares[inside] = (1 / areas)[labels]
    return shares, count


def _span(hit: np.ndarray) -> slice:
    where = np.flatnonzero(hit)
    return slice(int(where[0]), int(where[-1]) + 1)


def region_shares(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """`region_share` of several images: of all defective pixels in raster order [k], and the number of regions.

    Args:
        masks: [n, h, w] bool.
    """
    found = [(mask, *region_share(mask)) for mask in masks if mask.any()]
    if not found:
        return np.zeros(0), 0
    return np.concatenate([share[mask] for mask, share, _ in found]), sum(count for *_, count in found)


def rank_pixels(maps: np.ndarray, masks: np.ndarray) -> PixelRanking | None:
    """Rank the pixels of several images together.

    Args:
        maps: [n, h, w] float32 anomaly maps, larger = more anomalous.
        masks: [n, h, w] bool, true on defects; all false for a good image.

    Returns:
        The ranking, or None where one of the two kinds of pixels is missing.
    """
    masks = np.asarray(masks, dtype=bool)
    maps = np.asarray(maps)
    return rank_scores(maps[~masks], maps[masks], *region_shares(masks))


def rank_scores(
    normal: np.ndarray, anomalous: np.ndarray, share: np.ndarray, regions: int
) -> PixelRanking | None:
    """`rank_pixels` of pixels that are sorted out already.

    Args:
        normal: scores of the good pixels; sorted in place.
        anomalous: [k] scores of the defective ones. share: [k] what each counts for its region.
        regions: how many regions there are.
    """
    if not anomalous.size or not normal.size:
        return None
    order = np.argsort(-anomalous, kind="stable")
    anomalous, share = anomalous[order], share[order]
    normal.sort()
    last_of_tie = np.append(np.flatnonzero(np.diff(anomalous)), anomalous.size - 1)
    thresholds = anomalous[last_of_tie]
    return PixelRanking(
        hits=last_of_tie + 1,
        alarms=normal.size - np.searchsorted(normal, thresholds, side="left"),
        alarms_above=normal.size - np.searchsorted(normal, thresholds, side="right"),
        coverage=np.minimum(np.cumsum(share)[last_of_tie] / regions, 1.0),
        anomalous=int(anomalous.size),
        normal=int(normal.size),
        regions=regions,
    )
