"""One image score from an image's anomaly probability and its finished map: what Human-Free and APT leave open."""

from typing import Literal

import torch
from torch import Tensor

Fusion = Literal["mean", "harmonic", "image", "map"]
FORMULAS: dict[Fusion, str] = {
    "mean": "(p_image + max of map) / 2",
    "harmonic": "1 / (1 / p_image + 1 / max of map)",
    "image": "p_image",
    "map": "max of map",
}


def fuse(image: Tensor, maps: Tensor, how: Fusion) -> Tensor:
    """Image scores [B] in 0..1 from probabilities [B] and maps [B, h, w], both in 0..1.

    The harmonic form is 0 where either is 0, and at most one half.
    """
    highest = maps.flatten(1).amax(1)
    if how == "mean":
        return (image + highest) / 2
    if how == "harmonic":
        return harmonic(image, highest)
    return image if how == "image" else highest


def harmonic(a: Tensor, b: Tensor) -> Tensor:
    """1 / (1/a + 1/b), and 0 where one of them is 0; PromptAD's fusion of prompts and memory."""
    return a * b / (a + b).clamp(min=torch.finfo(a.dtype).tiny)
