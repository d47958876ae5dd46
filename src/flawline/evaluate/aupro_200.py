"""AUPRO as most papers compute it: 200 equidistant thresholds between the smallest and the largest score.

A category's maps are compared with thresholds lowest + k (highest - lowest) / 200; of the points with a false-positive
rate strictly below the limit the rates are stretched to 0..1 (smallest kept rate to 0, largest to 1), and the area
under the mean region overlap is taken by trapezoids. There is no interpolation at the limit, few thresholds matter
where the scores are concentrated, and one outlying pixel moves the value: it is kept for comparison with papers, while
`aupro` is the number to trust. (The routine is in the released code of AnomalyCLIP, FAPrompt, DAPO and others.)
"""

import numpy as np

from flawline.evaluate.ranking import region_shares

STEPS = 200


def papers_thresholds(low: np.float32 | float, high: np.float32 | float) -> np.ndarray:
    """The thresholds [about 200], rising, float64, in the arithmetic of the released routine; empty if low == high.

    Args:
        low, high: the smallest and the largest score, in the maps' own float type.
    """
    if not high > low:
        return np.zeros(0)
    step = (high - low) / STEPS
    return np.arange(low, high, step).astype(np.float64) if step > 0 else np.zeros(0)


def papers_area(fpr: np.ndarray, pro: np.ndarray, limit: float) -> float | None:
    """The area over the kept, stretched points.

    Args:
        fpr, pro: [k] false-positive rate and mean region overlap at each threshold, rising: both fall.
        limit: points with a smaller rate are kept.

    Returns:
        0..1, or None where fewer than two different rates are kept: the stretch is then not defined.
    """
    kept = fpr < limit
    rate, height = fpr[kept][::-1], pro[kept][::-1]
    if len(rate) < 2 or rate[-1] == rate[0]:
        return None
    return float(np.trapezoid(height, (rate - rate[0]) / (rate[-1] - rate[0])))


def aupro_200(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float | None:
    """The papers' AUPRO of several images together, by sorting instead of 200 passes; equal to the passes.

    Args:
        maps: [n, h, w] float32, larger = more anomalous.
        masks: [n, h, w] bool, true on defects; all false for a good image.
        limit: false-positive rate below which points count; the papers take 0.3.

    Returns:
        The area, or None where it is not defined: no defective or no good pixels, or see `papers_area`.
    """
    maps, masks = np.asarray(maps), np.asarray(masks, dtype=bool)
    if masks.all() or not masks.any():
        return None
    thresholds = papers_thresholds(maps.min(), maps.max())
    return papers_area(*papers_points(maps[~masks], maps[masks], *region_shares(masks), thresholds), limit)


def papers_points(
    normal: np.ndarray, anomalous: np.ndarray, share: np.ndarray, regions: int, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False-positive rate and mean region overlap [k] above each threshold.

    Args:
        normal: scores of the good pixels. anomalous: [d] of the defective ones. share: [d] see `region_share`.
        regions: how many regions there are.
        thresholds: [k].
    """
    order = np.argsort(anomalous, kind="stable")
    covered = np.concatenate([np.cumsum(share[order][::-1])[::-1], [0.0]]) / regions
    fpr = 1 - np.searchsorted(np.sort(normal), thresholds, side="right") / normal.size
    return fpr, covered[np.searchsorted(anomalous[order], thresholds, side="right")]
