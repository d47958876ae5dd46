"""The image tower as scoring runs it: only what a method reads, in the precision and by the compiler of a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from flawline.clip.image_path import Encoded, encode_resolved, resolve_paths
from flawline.clip.products import onednn

if TYPE_CHECKING:
    from flawline.prompts.shared.base import PromptMethod
    from flawline.settings import ImagePath


@dataclass(frozen=True)
class Plan:
    """How the tower runs.

    Attributes:
        precision: `float32`, or `bfloat16` where autocast allows it.
        compiled: by torch.compile; batches are then filled up to one size.
        narrow: the last block computes the class token alone where nothing else is read from it.
        onednn: products by the other library inside torch, see flawline.clip.products; still float32.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    narrow: bool = False
    onednn: bool = False

    @property
    def name(self) -> str:
        """For files and people: `bfloat16 narrow compiled`."""
        return (
            self.precision + " narrow" * self.narrow + " onednn" * self.onednn + " compiled" * self.compiled
        )


#: what evaluation runs, and scoring unless it was asked to be fast
PLAIN = Plan()


class Encoder:
    """`encode_image` of a method's image paths, by a plan.

    What a method does not read, by its declarations `reads_cls` and `reads_patches`, is
    not computed, and comes empty.
    """

    def __init__(
        self, method: "PromptMethod", paths: "dict[str, ImagePath]", batch: int, plan: Plan = PLAIN
    ) -> None:
        """`batch`: images that compiled code is made for; `paths`: by role."""
        self.backbone, self.batch, self.plan = method.backbone, batch, plan
        self.paths = resolve_paths(self.backbone, paths)
        self.cls = method.reads_cls
        self.patches = method.reads_patches
        self._run: Callable[[Tensor], dict[str, Encoded]] = self._encode
        if plan.compiled:
            self._run = torch.compile(self._encode, dynamic=False)

    def __call__(self, pixels: Tensor) -> dict[str, Encoded]:
        """Float32 features by role of images [B, 3, S, S]."""
        count = len(pixels)
        if self.plan.compiled and count < self.batch:
            pixels = torch.cat([pixels, pixels[-1:].expand(self.batch - count, -1, -1, -1)])
        device = self.backbone.device.type
        with (
            torch.no_grad(),
            onednn(self.plan.onednn),
            torch.autocast(device, torch.bfloat16, enabled=self.plan.precision == "bfloat16"),
        ):
            read = self._run(pixels)
        if self.plan == PLAIN:
            return read
        return {
            role: Encoded(encoded.cls[:count].float(), encoded.patches[:count].float())
            for role, encoded in read.items()
        }

    def _encode(self, pixels: Tensor) -> dict[str, Encoded]:
        return encode_resolved(self.backbone, pixels, self.paths, self.cls, self.patches, self.plan.narrow)
