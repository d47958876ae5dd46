"""Image-level metrics: does the score of an image tell a defective part from a good one?"""

import numpy as np
from numpy.typing import ArrayLike

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1_max")


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """AUROC, average precision and the largest F1 of image scores.

    Args:
        labels: [n] 0 (good) or 1 (anomalous).
        scores: [n] finite numbers, larger = more anomalous.

    Returns:
        One value (0..1) for each of IMAGE_METRICS; empty where only one class is there, because none of
        them is defined then.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth = np.asarray(labels).astype(bool)
    values = np.asarray(scores, dtype=np.float64)
    if truth.all() or not truth.any():
        return {}
    return {
        "image_auroc": float(roc_auc_score(truth, values)),
        "image_ap": float(average_precision_score(truth, values)),
        "image_f1_max": f1_max(truth, values),
    }


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """The largest F1 = 2PR/(P+R) over all thresholds (score >= threshold); both classes must be there."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(np.asarray(labels), np.asarray(scores))
    total = precision + recall
    return float(np.max(2 * precision * recall / np.where(total > 0, total, 1)))


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve as (false-positive rates, true-positive rates), from (0, 0) to (1, 1)."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(np.asarray(labels), np.asarray(scores))
    return fpr, tpr
