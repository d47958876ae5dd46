"""Seen and novel types: by words, from the training set's folders and from what the method was told."""

import numpy as np
import pandas as pd
import pytest

from flawline.data.vocabulary import Names, Vocabulary
from flawline.evaluate.measure import Measured
from flawline.evaluate.novelty import NOVEL, SEEN, by_novelty, mean_of, seen_words

VOCABULARY = Vocabulary(
    defects={"chip": "chipped edge"}, datasets={"castings": Names(defects={"rust_1": "rust"})}
)
MANIFEST = pd.DataFrame(
    {
        "dataset": ["castings", "castings", "castings", "boards"],
        "defect": ["good", "chip", "rust_1", "hole"],
        "label": [0, 1, 1, 1],
    }
)


def test_folders_of_the_training_set_and_trained_words() -> None:
    card = {"train_set": "castings", "words": {"trained": ["loose thread"], "good": "flawless {noun}"}}
    assert seen_words(MANIFEST, VOCABULARY, card) == {"chipped edge", "rust", "loose thread"}
    assert seen_words(MANIFEST, VOCABULARY, {"train_set": "castings", "words": {}}) == {
        "chipped edge",
        "rust",
    }
    # An imported checkpoint: nobody knows its training set here.
    assert seen_words(MANIFEST, VOCABULARY, {"train_set": "unknown"}) == frozenset()


def one(value: float, *samples: float) -> Measured:
    return Measured(value, np.asarray(samples), 10, 3)


def test_types_are_averaged_on_their_side() -> None:
    parts = {
        ("bolt", "chip"): {"pixel_auroc": one(0.8, 0.7, 0.9)},
        ("nut", "chip"): {"pixel_auroc": one(0.6, 0.5, 0.7)},
        ("nut", "hole"): {"pixel_auroc": one(0.9, 0.9, 0.9), "aupro": one(0.3, 0.2, 0.4)},
    }
    found = by_novelty(parts, {"chip": "chipped edge", "hole": "hole"}, frozenset({"chipped edge"}))
    assert set(found) == {
        ("mean", SEEN, "pixel_auroc"),
        ("mean", NOVEL, "pixel_auroc"),
        ("mean", NOVEL, "aupro"),
    }
    seen = found["mean", SEEN, "pixel_auroc"]
    assert (
        seen.value == pytest.approx(0.7)
        and seen.samples == pytest.approx([0.6, 0.8])
        and seen.n_anomalous == 6
    )
    assert found["mean", NOVEL, "aupro"].value == 0.3


def test_the_same_word_under_another_folder_is_seen() -> None:
    found = by_novelty(
        {("b", "corner"): {"aupro": one(0.5, 0.5)}}, {"corner": "chipped edge"}, frozenset({"chipped edge"})
    )
    assert set(found) == {("mean", SEEN, "aupro")}


def test_an_undefined_resample_is_the_mean_of_the_others() -> None:
    mean = mean_of([one(0.5, float("nan"), 0.4, float("nan")), one(0.7, 0.6, 0.8, float("nan"))])
    assert mean.value == pytest.approx(0.6)
    assert mean.samples[:2] == pytest.approx([0.6, 0.6]) and np.isnan(mean.samples[2])
