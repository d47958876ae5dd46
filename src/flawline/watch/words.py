"""Which words of the vocabulary a cluster of crops is nearest to, and what it could be called."""

import re
from typing import TYPE_CHECKING

import numpy as np

from flawline.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from flawline.clip.backbone import Backbone

_MOST = 5


def all_words(vocabulary: Vocabulary) -> list[str]:
    """Every defect word of the vocabulary once, sorted."""
    own = [names.defects.values() for names in vocabulary.datasets.values()]
    return sorted({*vocabulary.defects.values(), *(word for words in own for word in words)})


class WordList:
    """Words as directions away from `good`, to compare what is seen with what is said.

    Args:
        backbone: whose text tower reads them.
        words: defect words.
    """

    def __init__(self, backbone: "Backbone", words: list[str]) -> None:
        from flawline.prompts.shared.sentences import GENERAL_NORMAL, GENERAL_TEMPLATES, prototype

        photos = list(GENERAL_TEMPLATES)
        self.words = words
        good = prototype(backbone, GENERAL_NORMAL, "object", photos).cpu().numpy()
        told = [prototype(backbone, (f"{{}} with {_plain(word)}",), "object", photos) for word in words]
        away = np.stack([one.cpu().numpy() for one in told]) - good if told else np.zeros((0, len(good)))
        self.directions = _unit(away)

    def nearest(self, crops: np.ndarray, good: np.ndarray | None) -> list[tuple[str, float]]:
        """The nearest words of a cluster, best first, each with its cosine.

        Args:
            crops: [n, D] unit features of the cluster's crops.
            good: mean of known good crops [D], taken off so that the product itself names nothing; None: unknown.
        """
        if not self.words:
            return []
        seen = _unit((crops.mean(0) - (0 if good is None else good))[None])[0]
        cosines = self.directions @ seen
        order = sorted(range(len(self.words)), key=lambda k: (-cosines[k], self.words[k]))
        return [(self.words[k], float(cosines[k])) for k in order[:_MOST]]


def suggest(nearest: list[tuple[str, float]], taken: set[str]) -> tuple[str, str]:
    """(folder name, words) for a cluster: the nearest word whose folder name is not taken; else `new_type_2`, ….

    Args:
        nearest: words, best first.
        taken: folder names that stand for types already, in any case.
    """
    low = {name.casefold() for name in taken}
    for word, _ in nearest:
        name = folder_name(word)
        if name and name not in low:
            return name, word
    number = 1
    while f"new_type_{number}" in low:
        number += 1
    return f"new_type_{number}", "defect"


def folder_name(words: str) -> str:
    """Words as a folder name: `loose thread` → `loose_thread`; empty where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "_", words.casefold()).strip("_")[:64]


def _plain(word: str) -> str:
    return word.replace("{", "").replace("}", "")


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))
