"""How well defect types are told apart, among the defective images of one test set.

Dimensions: n images, K types, B bootstrap resamples. Types are compared by their words: two folders with the same
words are one type. A good image has no type and takes no part; whether it is good is what the other metrics measure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flawline.evaluate.draws import weight_blocks
from flawline.evaluate.measure import Measured
from flawline.evaluate.novelty import NOVEL, SEEN, mean_of
from flawline.evaluate.thresholds import share_of
from flawline.evaluate.weighted import weighted_image_metrics

#: one-vs-rest metrics: a row a type, and their means
TYPE_METRICS = ("type_auroc", "type_ap", "type_f1")


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


@dataclass(frozen=True)
class _Asked:
    """One metric: its value in each resample as a function of the weights [B, m] of m images, and its images."""

    of: Callable[[np.ndarray], np.ndarray]
    n_anomalous: int


def type_metrics(
    scores: TypeScores,
    truth: list[str],
    categories: np.ndarray,
    defects: np.ndarray,
    samples: int,
    seed: int,
    groups: np.ndarray | None = None,
    seen: frozenset[str] | None = None,
) -> dict[tuple[str, str, str], Measured]:
    """Type metrics of one test set, by (category, defect folder or `all`, metric).

    `type_accuracy`: share of defective images whose most probable type is the true one (top 1 of K); a category's
    over its images, a folder's over its images, `mean` / `all` the mean over categories. One type against the others
    over all categories together, by its probability among the defects: `type_auroc`, `type_ap` (average precision; a
    type's share of the defective images is what chance reaches), and `type_f1` of naming it (top 1). `mean` / a folder
    is that of its type, `mean` / `all` the mean over types (macro F1), `mean` / `seen types` and `novel types` over
    those. What a single type leaves undefined is absent.

    Args:
        scores: of all images.
        truth: the words of each image's type, empty for a good image.
        categories, defects: [n] str, folder names.
        samples, seed: of the bootstrap, which resamples images within category and defect.
        groups: [n] names of groups that are drawn as a whole, or None; see `resample`.
        seen: words of the types that are no news to the prompt set (`seen_words`); None: no split is made.
    """
    bad = np.flatnonzero([bool(words) for words in truth])
    if not len(bad) or len(scores.words) < 2:
        return {}
    of, folder = categories[bad], defects[bad]
    own = None if groups is None else np.asarray(groups, dtype=object)[bad]
    true, named = np.asarray(truth)[bad], np.asarray(scores.named())[bad]
    share = scores.probabilities[bad, 1:].astype(np.float64)
    share = share / np.maximum(share.sum(1, keepdims=True), 1e-12)
    right, folders = named == true, _accuracy_rows(of, folder)
    asked = {key: _asked_share(right, rows) for key, rows in folders.items()}
    for words in sorted(set(true.tolist())):
        labels = (true == words).astype(np.int64)
        if labels.min() < labels.max():
            asked |= _one_against_rest(words, labels, named == words, share[:, scores.words.index(words)])
    strata = [f"{c}/{d}" for c, d in zip(of, folder, strict=True)]
    measured = _measured(asked, weight_blocks(strata, samples, seed, own), len(bad))

    found = {key: one for key, one in measured.items() if key[2] == "type_accuracy"}
    parts = [one for (_, defect, _), one in found.items() if defect == "all"]
    found["mean", "all", "type_accuracy"] = mean_of(parts)
    for metric in TYPE_METRICS:
        sides: dict[str, list[Measured]] = {}
        for words in sorted(set(true.tolist())):
            one = measured.get(("", words, metric))
            if one is None:
                continue
            for defect in sorted(set(folder[true == words].tolist())):
                found["mean", defect, metric] = one
            sides.setdefault("all", []).append(one)
            if seen is not None:
                sides.setdefault(SEEN if words in seen else NOVEL, []).append(one)
        found.update({("mean", side, metric): mean_of(ones) for side, ones in sides.items()})
    return found


def _accuracy_rows(categories: np.ndarray, folders: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
    """[m] bool of each category and of each of its defect folders."""
    rows = {}
    for category in sorted(set(categories.tolist())):
        inside = categories == category
        rows[category, "all", "type_accuracy"] = inside
        for defect in sorted(set(folders[inside].tolist())):
            rows[category, defect, "type_accuracy"] = inside & (folders == defect)
    return rows


def _asked_share(right: np.ndarray, rows: np.ndarray) -> _Asked:
    return _Asked(lambda weights: share_of(right, rows, weights), int(rows.sum()))


def _one_against_rest(
    words: str, labels: np.ndarray, called: np.ndarray, share: np.ndarray
) -> dict[tuple[str, str, str], _Asked]:
    """The metrics of one type: labels [m] 0/1, called [m] bool, share [m] its probability among the defects."""

    def ranked(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: weighted_image_metrics(labels, share, weights)[name]

    def f1(weights: np.ndarray) -> np.ndarray:
        drawn = weights.astype(np.float64)
        hits, there = drawn @ (called & (labels == 1)), drawn @ labels
        return np.where(there > 0, 2 * hits / np.maximum(there + drawn @ called, 1), np.nan)

    count = int(labels.sum())
    return {
        ("", words, "type_auroc"): _Asked(ranked("image_auroc"), count),
        ("", words, "type_ap"): _Asked(ranked("image_ap"), count),
        ("", words, "type_f1"): _Asked(f1, count),
    }


def _measured(
    asked: dict[tuple[str, str, str], _Asked], blocks: Iterator[np.ndarray], images: int
) -> dict[tuple[str, str, str], Measured]:
    """Every metric with its bootstrap values, some resamples at a time."""
    plain = np.ones((1, images), dtype=np.int32)
    drawn: dict[tuple[str, str, str], list[np.ndarray]] = {key: [] for key in asked}
    for weights in blocks:
        for key, one in asked.items():
            drawn[key].append(one.of(weights))
    return {
        key: Measured(float(one.of(plain)[0]), np.concatenate(drawn[key]), 0, one.n_anomalous)
        for key, one in asked.items()
    }
