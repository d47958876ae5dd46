"""How well defect types are told apart, among the defective images of one test set.

Dimensions: n images, K types, B bootstrap resamples. Types are compared by their words: two folders with the same
words are one type. A good image has no type and takes no part; whether it is good is what the other metrics measure.
"""

from dataclasses import dataclass

import numpy as np

from flawline.evaluate.bootstrap import resample
from flawline.evaluate.measure import Measured, macro
from flawline.evaluate.weighted import weighted_image_metrics


@dataclass(frozen=True)
class TypeScores:
    """What a method says of the types of n images.

    Attributes:
        words: the K types asked for.
        probabilities: [n, 1 + K], good first.
    """

    words: list[str]
    probabilities: np.ndarray

    def named(self) -> list[str]:
        """The most probable type of each image, whatever the probability of good."""
        return [self.words[k] for k in self.probabilities[:, 1:].argmax(1)]


def type_metrics(
    scores: TypeScores,
    truth: list[str],
    categories: np.ndarray,
    defects: np.ndarray,
    samples: int,
    seed: int,
) -> dict[tuple[str, str, str], Measured]:
    """Type metrics of one test set, by (category, defect folder or `all`, metric).

    `type_accuracy`: share of defective images whose most probable type is the true one (top 1 of K); a category's
    over its images, a folder's over its images, `mean` / `all` the mean over categories. `type_auroc`: one type
    against the others, by its probability among the defects; `mean` / `all` the mean over types. What a single
    type leaves undefined is absent.

    Args:
        scores: of all images.
        truth: the words of each image's type, empty for a good image.
        categories, defects: [n] str, folder names.
        samples, seed: of the bootstrap, which resamples images within category and defect.
    """
    bad = np.flatnonzero([bool(words) for words in truth])
    if not len(bad) or len(scores.words) < 2:
        return {}
    true = np.asarray(truth)[bad]
    named = np.asarray(scores.named())[bad]
    of, folder = categories[bad], defects[bad]
    weights = resample([f"{c}/{d}" for c, d in zip(of, folder, strict=True)], samples, seed)
    right = (named == true).astype(np.float64)
    found: dict[tuple[str, str, str], Measured] = {}
    parts = []
    for category in sorted(set(of.tolist())):
        inside = of == category
        parts.append(_share(right, weights, inside))
        found[category, "all", "type_accuracy"] = parts[-1]
        for defect in sorted(set(folder[inside].tolist())):
            found[category, defect, "type_accuracy"] = _share(right, weights, inside & (folder == defect))
    found["mean", "all", "type_accuracy"] = macro(parts)
    share = scores.probabilities[bad, 1:]
    share = share / np.maximum(share.sum(1, keepdims=True), 1e-12)
    curves = []
    for words in sorted(set(true.tolist())):
        labels = (true == words).astype(np.int64)
        if labels.min() == labels.max():
            continue
        value = share[:, scores.words.index(words)].astype(np.float64)
        exact = weighted_image_metrics(labels, value, np.ones((1, len(labels)), np.int32))["image_auroc"][0]
        drawn = weighted_image_metrics(labels, value, weights)["image_auroc"]
        curves.append(Measured(float(exact), drawn, 0, int(labels.sum())))
        for defect in sorted(set(folder[labels == 1].tolist())):
            found["mean", defect, "type_auroc"] = curves[-1]
    if curves:
        found["mean", "all", "type_auroc"] = macro(curves)
    return found


def _share(right: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> Measured:
    drawn = weights[:, rows].astype(np.float64)
    value = float(right[rows].mean())
    return Measured(value, drawn @ right[rows] / np.maximum(drawn.sum(1), 1), 0, int(rows.sum()))
