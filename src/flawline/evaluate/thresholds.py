"""What a fixed threshold does on a test set: false alarms, detections, accuracy.

These are the numbers a line has to live with. AUROC and F1-max choose their thresholds on the test set itself; here the
threshold comes from the card, chosen on the training side (flawline.tune.thresholds).
"""

import numpy as np

from flawline.evaluate.bootstrap import strata_of
from flawline.evaluate.draws import weight_blocks
from flawline.evaluate.measure import Measured, macro

THRESHOLD_METRICS = ("false_alarm_rate", "detection_rate", "accuracy")


def threshold_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    categories: np.ndarray,
    defects: np.ndarray,
    threshold: float,
    samples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[tuple[str, str, str], Measured]:
    """Rates at a threshold, by (category, defect folder or `all`, metric).

    `false_alarm_rate`: share of good images with a score above the threshold. `detection_rate`: share of defective
    ones, also of each defect type. `accuracy`: share of all images that are judged rightly; it depends on how many of
    them are good. `mean` / `all` is the mean over the categories where the rate is defined; what has no image is
    absent.

    Args:
        labels: [n] 0 or 1. scores: [n]. categories, defects: [n] str, folder names.
        threshold: an image is called anomalous when its score is above it.
        samples, seed: of the bootstrap, which resamples images within category and label.
        groups: [n] names of groups that are drawn as a whole, or None; see `resample`.
    """
    truth, flagged = np.asarray(labels).astype(int), np.asarray(scores, dtype=np.float64) > threshold
    found: dict[tuple[str, str, str], Measured] = {}
    parts: dict[str, list[Measured]] = {}
    for category in sorted(set(categories.tolist())):
        rows = np.flatnonzero(categories == category)
        label, alarm, folder = truth[rows], flagged[rows], defects[rows]
        # What counts as right, and among which images.
        asked = {
            ("all", "false_alarm_rate"): (alarm, label == 0),
            ("all", "detection_rate"): (alarm, label == 1),
            ("all", "accuracy"): (alarm == (label == 1), np.ones(len(rows), dtype=bool)),
        }
        for defect in sorted(set(folder[label == 1].tolist())):
            asked[defect, "detection_rate"] = (alarm, (label == 1) & (folder == defect))
        asked = {key: (yes, of) for key, (yes, of) in asked.items() if of.any()}
        own = None if groups is None else np.asarray(groups, dtype=object)[rows]
        strata = strata_of(categories[rows], label)
        blocks = [
            {key: share_of(yes, of, weights) for key, (yes, of) in asked.items()}
            for weights in weight_blocks(strata, samples, seed, own)
        ]
        for (defect, metric), (yes, of) in asked.items():
            drawn = np.concatenate([block[defect, metric] for block in blocks])
            counts = int(np.sum(label[of] == 0)), int(np.sum(label[of] == 1))
            one = Measured(float(yes[of].mean()), drawn, *counts)
            found[category, defect, metric] = one
            if defect == "all":
                parts.setdefault(metric, []).append(one)
    return found | {("mean", "all", metric): macro(measured) for metric, measured in parts.items()}


def share_of(yes: np.ndarray, of: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of `yes` among the drawn images of `of` in each resample; NaN where none of them was drawn.

    Args:
        yes, of: [n] bool.
        weights: [B, n], how often each image was drawn.
    """
    drawn = weights[:, of].astype(np.float64)
    total = drawn.sum(axis=1)
    return np.where(total > 0, drawn @ yes[of].astype(np.float64) / np.maximum(total, 1), np.nan)
