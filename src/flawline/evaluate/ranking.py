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
    """

    hits: np.ndarray
    alarms: np.ndarray
    alarms_above: np.ndarray
    coverage: np.ndarray
    anomalous: int
    normal: int
    regions: int


def region_share(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """What each defective pixel counts for its region.

    Args:
        mask: [h, w] bool.

    Returns:
        [h, w] float64, 1 / (pixels of the pixel's 8-connected region), 0 outside; and the number of regions.
    """
    labels, count = ndimage.label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    areas[0] = np.inf
    return (1 / areas)[labels], count


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
    anomalous, normal = maps[masks], maps[~masks]
    if not anomalous.size or not normal.size:
        return None
    shares, regions = [], 0
    for mask in masks:
        if mask.any():
            share, count = region_share(mask)
            shares.append(share[mask])
            regions += count
    order = np.argsort(-anomalous, kind="stable")
    anomalous, share = anomalous[order], np.concatenate(shares)[order]
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
