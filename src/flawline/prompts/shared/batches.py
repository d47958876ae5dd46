"""What passes through a method: images as it sees them, batches of a training set, and what it predicts.

Dimensions: B images, L levels of the image path, N patches, D joint, W width of the image tower, C classes
(0 = good, the rest defects; binary methods have C = 2), S pixels a side of the backbone's input.
"""

from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from flawline.errors import FlawlineError

#: scores [B], maps [B, S, S], types [B, 1 + K], type maps [B, 1 + K, S, S]
Judged = tuple[Tensor, Tensor, Tensor, Tensor]
Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class Inputs:
    """What a method may see of B images.

    Attributes:
        cls: image features [B, D] of the method's image path, unit length.
        patches: patch features [B, L, N, D] of the method's image path, unit length.
        nouns: the category's words of each image, empty where unknown.
        more: patch features [B, L, N, D or W] of the method's other image paths, by role (`more_paths`).
        pixels: preprocessed images [B, 3, S, S], only for methods with `reads_pixels`.
        categories: the category of each image, for methods with a memory of good images.
    """

    cls: Tensor
    patches: Tensor
    nouns: list[str] = field(default_factory=list)
    more: dict[str, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None
    categories: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.cls)

    def need_pixels(self) -> Tensor:
        """The images; FlawlineError where only cached features were given."""
        if self.pixels is None:
            raise FlawlineError(
                "this method reads images, but was given cached features alone", "pass Inputs.pixels"
            )
        return self.pixels

    def rows(self, picked: Tensor) -> "Inputs":
        """The inputs of some images, picked int64 [b]."""
        at = picked.tolist()
        return Inputs(
            self.cls[picked],
            self.patches[picked],
            [self.nouns[k] for k in at] if self.nouns else [],
            {role: values[picked] for role, values in self.more.items()},
            None if self.pixels is None else self.pixels[picked],
            [self.categories[k] for k in at] if self.categories else [],
        )


@dataclass(frozen=True)
class Batch:
    """Some images of a training set: what is seen, labels int64 [B] (0 good), masks bool [B, S, S], defects.

    `defects` names each image's defect type (its noise, if synthetic), `good` for good images.
    """

    inputs: Inputs
    labels: Tensor
    masks: Tensor
    defects: list[str] = field(default_factory=list)

    @property
    def cls(self) -> Tensor:
        return self.inputs.cls

    @property
    def patches(self) -> Tensor:
        return self.inputs.patches


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of images [B, C] and patches [B, L, N, C], and the unit text features they were
    compared with: [C, D], or [B, C, D] where the images of a batch have different nouns."""

    image: Tensor
    patches: Tensor
    text: Tensor


def rows_by(keys: list[Key]) -> dict[Key, Tensor]:
    """Rows int64 of each distinct key, keys sorted."""
    return {k: torch.tensor([i for i, key in enumerate(keys) if key == k]) for k in sorted(set(keys))}
