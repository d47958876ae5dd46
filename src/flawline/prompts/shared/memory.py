"""A memory of good patches, by category: what few-shot methods compare new images with. No method of its own.

FACT: the score ½(1 - max cosine) with the good patches is that of WinCLIP+ (CVPR 2023, section 4.2) and PromptAD
(CVPR 2024, section 3.4). CHOICE: memories are kept by category, and travel with a prompt set that has them.

Dimensions: B images, L levels, N tokens (patches or windows) an image, W width, M remembered tokens a level.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flawline.errors import FlawlineError
from flawline.prompts.shared.batches import rows_by

# Numbers in one block of cosines: 16 MiB of float32, however large memory and images are.
_BLOCK = 2**22
_MOST_COLUMNS = 4096
#: the category of images whose category nobody told
UNKNOWN = ""


class Kept(nn.Module):
    """Tensors by name that are saved with a prompt set but never train; loading takes whatever names are there."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, Tensor] = {}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination.update({prefix + name: value for name, value in sorted(self.of.items())})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        self.of = {
            name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)
        }


class PatchMemory(Kept):
    """Good tokens [L, M, W] of each category, unit length, and the distance of other tokens to them."""

    def fill(self, features: Tensor, categories: list[str]) -> None:
        """Remember good images; what was known of their categories is forgotten, other categories stay.

        Args:
            features: [B, L, N, W] of good images.
            categories: one an image; an empty list where nobody knows (then all are of one unknown category).
        """
        for category, rows in rows_by(categories_of(categories, len(features))).items():
            good = F.normalize(features[rows].float(), dim=-1)
            self.of[category] = good.transpose(0, 1).flatten(1, 2).contiguous()

    def distance(self, features: Tensor, categories: list[str]) -> Tensor:
        """½(1 - largest cosine with the category's good tokens), 0..1: [B, L, N] of features [B, L, N, W].

        Raises:
            FlawlineError: nothing good is remembered of a category.
        """
        found = torch.empty(features.shape[:3], device=features.device)
        for category, rows in rows_by(categories_of(categories, len(features))).items():
            good = self.of[self.resolve(category)].to(features.device)
            for level in range(features.shape[1]):
                tokens = F.normalize(features[rows, level].float(), dim=-1)
                cosines = nearest(tokens.flatten(0, 1), good[level])
                found[rows, level] = ((1 - cosines) / 2).clamp(0, 1).view(tokens.shape[:2])
        return found

    def resolve(self, category: str) -> str:
        """The remembered category to compare with; for an unknown one the only one there is.

        Raises:
            FlawlineError: nothing good is remembered of the category.
        """
        if category in self.of:
            return category
        if category == UNKNOWN and len(self.of) == 1:
            return next(iter(self.of))
        asked = f"category '{category}'" if category else "an unnamed category"
        have = ", ".join(sorted(self.of)) or "nothing"
        raise FlawlineError(
            f"no good images of {asked} are remembered (but of {have})",
            "give a few good images of it as support",
        )


def nearest(tokens: Tensor, good: Tensor) -> Tensor:
    """Largest cosine of each unit token [n, W] with unit tokens [M, W]: [n]; in blocks, so memory stays small."""
    best = tokens.new_full((len(tokens),), -1.0)
    columns = min(len(good), _MOST_COLUMNS)
    step = max(1, _BLOCK // columns)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        for block in good.split(columns):
            here = best[start : start + step]
            torch.maximum(here, (part @ block.T).amax(1), out=here)
    return best


def categories_of(categories: list[str], count: int) -> list[str]:
    """The category of each of `count` images; the unknown one where none are told."""
    return list(categories) or [UNKNOWN] * count
