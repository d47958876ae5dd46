"""Exact AUPRO: the area under the per-region-overlap curve up to a false-positive-rate limit.

Regions are 8-connected components; the overlap is averaged over the regions, so a small defect counts as much
as a large one; the false-positive rate is over all good pixels, those of good images included (MVTec-AD,
Bergmann et al. 2021). Every distinct score is a threshold and the curve is cut at the limit by linear
interpolation: it is not the 200-threshold variant found in much released code, which differs.
"""

from dataclasses import dataclass

import numpy as np

from flawline.evaluate.ranking import PixelRanking


@dataclass(frozen=True)
class Aupro:
    """The value (0..1) and its curve, cut at the limit: `fpr` [k] and mean overlap `pro` [k]."""

    value: float
    fpr: np.ndarray
    pro: np.ndarray


def aupro(ranking: PixelRanking | None, limit: float) -> Aupro | None:
    """AUPRO of ranked pixels, divided by the limit so that a perfect map has 1.

    Args:
        ranking: from `rank_pixels`; None gives None.
        limit: false-positive rate where the area ends, above 0 and at most 1.
    """
    if ranking is None:
        return None
    # Two points a threshold: before its ties (only good pixels were passed) and after them.
    fpr = np.column_stack([ranking.alarms_above, ranking.alarms]).ravel() / ranking.normal
    before = np.concatenate([[0.0], ranking.coverage[:-1]])
    pro = np.column_stack([before, ranking.coverage]).ravel()
    fpr, pro = np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], pro, [1.0]])
    fpr, pro = cut(fpr, pro, limit)
    return Aupro(value=float(np.trapezoid(pro, fpr) / limit), fpr=fpr, pro=pro)


def cut(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a rising curve with x <= limit, ended by the interpolated point at x = limit."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside == len(x) or x[inside - 1] == limit:
        return x[:inside], y[:inside]
    step = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
    end = y[inside - 1] + step * (y[inside] - y[inside - 1])
    return np.append(x[:inside], limit), np.append(y[:inside], end)


def thin(x: np.ndarray, y: np.ndarray, points: int = 100) -> tuple[list[float], list[float]]:
    """A curve for drawing: at most `points` of its points, spread along its length, both ends kept."""
    if len(x) > points:
        length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        wanted = np.linspace(0, length[-1], points)
        keep = np.unique(np.append(np.searchsorted(length, wanted)[:-1], len(x) - 1))
        x, y = x[keep], y[keep]
    return [round(float(v), 6) for v in x], [round(float(v), 6) for v in y]
