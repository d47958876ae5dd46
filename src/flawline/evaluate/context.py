"""What a cell's evaluation must know besides scores and maps: the prompts' threshold, types, groups and hashes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.evaluate.groups import groups_of
from flawline.evaluate.leaks import refuse_leak
from flawline.evaluate.measure import Measured
from flawline.evaluate.novelty import by_novelty, seen_words
from flawline.evaluate.provenance import provenance
from flawline.evaluate.thresholds import threshold_metrics
from flawline.evaluate.types import TypeScores, type_metrics
from flawline.files import read_json, read_parquet
from flawline.settings import EvaluateSettings
from flawline.workspace import Cell, Workspace


@dataclass(frozen=True)
class Context:
    """Of n test images, in the row order of the features index.

    Attributes:
        threshold: of the prompt set's card.
        words: [n] words of each image's defect type, empty for a good image.
        folders: defect folder → its words.
        seen: words of the types that are no news to the prompt set.
        groups: [n] groups of images that are no independent evidence, or None.
        provenance: hashes, as provenance.json keeps them.
    """

    threshold: float
    words: list[str]
    folders: Mapping[str, str]
    seen: frozenset[str]
    groups: np.ndarray | None
    provenance: Mapping[str, str]


def read_context(workspace: Workspace, cell: Cell, test: str, index: pd.DataFrame) -> Context:
    """Read it for one prompt set on one test set.

    Args:
        workspace: holds the prompt set, the features, the image table and the vocabulary.
        cell, test: which.
        index: the features index of the test set: image, defect, label, sha256.

    Raises:
        FlawlineError: a test image trained the prompts, or a file is missing or broken.
    """
    prompts, manifest = workspace.prompts(cell), read_parquet(workspace.manifest)
    refuse_leak(index, prompts, test, manifest)
    card, vocabulary = read_json(prompts / "card.json"), load_vocabulary(workspace.vocabulary)
    try:
        threshold = float(card["threshold"]["value"])
    except (KeyError, TypeError, ValueError) as error:
        raise FlawlineError(
            f"{prompts / 'card.json'} has no threshold", "tune the prompts again (dvc repro tune)"
        ) from error
    bad = index.loc[index["label"] == 1, "defect"].astype(str)
    folders = {folder: vocabulary.defect_words(test, folder) for folder in sorted(set(bad))}
    words = [
        folders[str(folder)] if label == 1 else ""
        for folder, label in zip(index["defect"], index["label"], strict=True)
    ]
    return Context(
        threshold=threshold,
        words=words,
        folders=folders,
        seen=seen_words(manifest, vocabulary, card),
        groups=groups_of(index["image"], manifest),
        provenance=provenance(workspace, cell, test),
    )


def contextual_metrics(
    context: Context,
    index: pd.DataFrame,
    scores: np.ndarray,
    types: TypeScores | None,
    settings: EvaluateSettings,
) -> dict[tuple[str, str, str], Measured]:
    """Rates at the threshold, and how well types are told apart where the method says: (category, defect, metric).

    Args:
        context: from `read_context`.
        index: category, defect, label of the n images.
        scores: [n] image scores.
        types: what the method says of defect types; None where it knows none.
        settings: resamples and seed.
    """
    categories, defects = index["category"].to_numpy(dtype=str), index["defect"].to_numpy(dtype=str)
    labels, draw = index["label"].to_numpy(dtype=np.int64), (settings.bootstrap, settings.seed)
    found = threshold_metrics(labels, scores, categories, defects, context.threshold, *draw, context.groups)
    if types is not None:
        told = type_metrics(types, context.words, categories, defects, *draw, context.groups, context.seen)
        found = found | told
    return found


def novelty_metrics(
    context: Context, parts: Mapping[tuple[str, str], Mapping[str, Measured]]
) -> dict[tuple[str, str, str], Measured]:
    """`by_novelty` with this cell's types; `parts` is (category, defect folder) → metrics against the good images."""
    return by_novelty(parts, context.folders, context.seen)
