"""`patch_memory`: no prompts at all. A patch is as anomalous as it is far from a few good images' nearest patch.

What learned prompts have to beat in the few-shot setting, on the same frozen features. FACT: nearest-neighbour
patch memories are the visual half of WinCLIP+ and PromptAD. CHOICE: the mean over the levels of the image path; the
image score is the mean of the highest share of patches, 1 % (one patch on small grids).
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.prompts.shared.base import MethodOptions, PromptMethod
from flawline.prompts.shared.batches import Inputs
from flawline.prompts.shared.maps import finish_maps
from flawline.prompts.shared.memory import PatchMemory


class PatchMemoryOptions(MethodOptions):
    """Options of the patch memory; `noun` and `temperature` are not used: there are no words.

    Attributes:
        shots: good images a category that are remembered before scoring.
        top_share: share of an image's patches whose mean is the image score; 0 takes the highest alone.
    """

    shots: Annotated[int, Field(ge=1, le=1024)] = 4
    top_share: Annotated[float, Field(ge=0, le=1)] = 0.01


class PatchMemoryMethod(PromptMethod):
    name = "patch_memory"
    fidelity = "baseline"
    score_formula = "mean of the highest ½(1 - max cosine with good patches)"
    Options = PatchMemoryOptions
    options: PatchMemoryOptions
    reads_cls = False

    def __init__(self, backbone: Backbone, options: PatchMemoryOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        self.memory = PatchMemory()

    @property
    def needs_support(self) -> bool:
        return True

    def text_features(self, noun: str) -> Tensor:
        """[0, D]: there are no prompts."""
        return torch.empty(0, self.backbone.dim)

    def remember(self, good: Inputs) -> None:
        self.memory.fill(good.patches, good.categories)

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size]; the category of each image picks its memory.

        Raises:
            FlawlineError: nothing is remembered of a category.
        """
        distance = self.memory.distance(inputs.patches, inputs.categories).mean(1)
        highest = max(1, math.ceil(self.options.top_share * distance.shape[1]))
        image = distance.topk(highest, dim=1).values.mean(1)
        return image, finish_maps(distance, size, self.options.smoothing * size / self.backbone.image_size)


Method = PatchMemoryMethod
