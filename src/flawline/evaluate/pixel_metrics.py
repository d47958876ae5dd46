"""Pixel-level metrics over all pixels of a category pooled (zero-shot field convention).

Exact for a ranking of single scores (`rank_pixels`); for the bins of a streaming accumulator, as exact as the bins.
"""

import numpy as np

from flawline.evaluate.ranking import PixelRanking

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max")


def pixel_metrics(ranking: PixelRanking | None) -> dict[str, float]:
    """AUROC, average precision and largest F1 over pooled pixels; equal to scikit-learn's values.

    Args:
        ranking: from `rank_pixels`; None (only one kind of pixels) gives an empty answer.

    Returns:
        One value (0..1) for each of PIXEL_METRICS, or nothing.
    """
    if ranking is None:
        return {}
    found = np.diff(ranking.hits, prepend=0)
    outranked = 2 * ranking.normal - ranking.alarms - ranking.alarms_above
    f1 = 2 * ranking.hits / (ranking.anomalous + ranking.hits + ranking.alarms)
    return {
        # In Python integers: pairs of pixels of a large data set leave the exact range of a float.
        "pixel_auroc": int(np.sum(found * outranked)) / (2 * ranking.anomalous * ranking.normal),
        "pixel_ap": _average_precision(ranking, found),
        "pixel_f1_max": float(np.max(f1)),
    }


def _average_precision(ranking: PixelRanking, found: np.ndarray) -> float:
    """The sum over defective pixels of the precision where each is passed, divided by their number.

    Pixels of one score are passed together. Those of a bin with different scores are passed one after another, in the
    bin's own mix: with t from 0 to 1 the integral of (hits + t found) / (passed + t new) over found dt.
    """
    passed = ranking.hits + ranking.alarms
    together = ranking.hits / passed
    if ranking.spread is None or not ranking.spread.any():
        return float(np.sum(found * together) / ranking.anomalous)
    new = found + (ranking.alarms - ranking.alarms_above)
    share, before = found / new, passed - new
    hits_before = ranking.hits - found
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = (hits_before - share * before) / new * np.log1p(new / before)
    apart = share + np.where(before > 0, bend, 0.0)
    return float(np.sum(found * np.where(ranking.spread, apart, together)) / ranking.anomalous)
