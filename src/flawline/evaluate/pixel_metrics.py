"""Pixel-level metrics, exact, over all pixels of a category pooled (zero-shot field convention)."""

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
    precision = ranking.hits / (ranking.hits + ranking.alarms)
    f1 = 2 * ranking.hits / (ranking.anomalous + ranking.hits + ranking.alarms)
    return {
        # In Python integers: pairs of pixels of a large data set leave the exact range of a float.
        "pixel_auroc": int(np.sum(found * outranked)) / (2 * ranking.anomalous * ranking.normal),
        "pixel_ap": float(np.sum(found * precision) / ranking.anomalous),
        "pixel_f1_max": float(np.max(f1)),
    }
