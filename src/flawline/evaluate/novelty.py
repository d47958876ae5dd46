"""Which defect types a prompt set may know already, and what it is worth on those and on new ones.

Cross-data-set numbers mix two things: a known defect on another product, and a defect nobody showed. Types are compared
by their words, so that `scratch` and `scratches` folders of two data sets are one type where vocabulary.yaml says so.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flawline.data.vocabulary import Vocabulary
from flawline.evaluate.measure import Measured, macro

#: what stands in the column `defect` of the metrics table
SEEN, NOVEL = "seen types", "novel types"


def seen_words(manifest: pd.DataFrame, vocabulary: Vocabulary, card: Mapping[str, Any]) -> frozenset[str]:
    """Words of the types that count as seen by a prompt set.

    Args:
        manifest: the image table; of it the defect folders of the training set count, whether or not their images
            trained (a type that the training set has is no new type to those who chose the set).
        vocabulary: words of folders.
        card: of the prompt set: `train_set`, and `words.trained` of methods that learn types.

    Returns:
        The words; all other types are novel.
    """
    dataset = str(card.get("train_set", ""))
    folders = manifest.loc[(manifest["dataset"] == dataset) & (manifest["label"] == 1), "defect"]
    words = {vocabulary.defect_words(dataset, str(folder)) for folder in folders.unique()}
    trained = card.get("words", {}).get("trained", [])
    return frozenset(words | {str(word) for word in trained if isinstance(trained, list)})


def by_novelty(
    parts: Mapping[tuple[str, str], Mapping[str, Measured]],
    words: Mapping[str, str],
    seen: frozenset[str],
) -> dict[tuple[str, str, str], Measured]:
    """Metrics of types against the good images, averaged over the seen types and over the novel ones.

    Args:
        parts: (category, defect folder) → metrics of that type's images against the category's good images.
        words: of each defect folder.
        seen: from `seen_words`.

    Returns:
        ("mean", SEEN or NOVEL, metric) → unweighted mean over (category, type) pairs; a side without types is absent.
        n_normal counts the good images of each category once for each of its types.
    """
    sides: dict[tuple[str, str], list[Measured]] = {}
    for (_, folder), found in sorted(parts.items()):
        side = SEEN if words[folder] in seen else NOVEL
        for metric, one in found.items():
            sides.setdefault((side, metric), []).append(one)
    return {("mean", side, metric): mean_of(ones) for (side, metric), ones in sides.items()}


def mean_of(parts: list[Measured]) -> Measured:
    """`macro`, where a resample that leaves a part undefined is averaged over the others."""
    whole = macro(parts)
    samples = np.stack([part.samples for part in parts])
    known = np.isfinite(samples)
    with np.errstate(invalid="ignore"):
        mean = np.where(known.any(0), np.where(known, samples, 0).sum(0) / known.sum(0), np.nan)
    return Measured(whole.value, mean, whole.n_normal, whole.n_anomalous)
