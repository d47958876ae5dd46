"""Preprocessed pixels for methods that run the image tower themselves and cannot use cached features."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.data.images import load_rgb
from flawline.features.store import FeatureSet
from flawline.files import inside
from flawline.workspace import Workspace

# Squashed images kept in memory as bytes: 2,500 at 518 px, 40,000 at 128 px.
KEPT_BYTES = 2 << 30


class PixelReader:
    """Reads rows of a data set as the backbone sees them, and keeps the squashed bytes for the next epoch."""

    def __init__(
        self, files: list[Path], backbone: Backbone, max_pixels: int, keep: int = KEPT_BYTES
    ) -> None:
        """`files` in row order; `keep` bounds the memory in bytes."""
        self.files = files
        self.backbone = backbone
        self.max_pixels = max_pixels
        self._kept: dict[int, Image.Image] = {}
        self._room = keep // (3 * backbone.image_size**2)

    def __call__(self, rows: Tensor) -> Tensor:
        """Images [b, 3, S, S] of rows int64 [b], as `Backbone.preprocess` makes them.

        Raises:
            FlawlineError: a file is missing, broken or too large.
        """
        return torch.stack([self.backbone.preprocess(self._squashed(row)) for row in rows.tolist()])

    def _squashed(self, row: int) -> Image.Image:
        if row in self._kept:
            return self._kept[row]
        image = self.backbone.squash(load_rgb(self.files[row], self.max_pixels))
        if len(self._kept) < self._room:
            self._kept[row] = image
        return image


def files_of(features: FeatureSet, workspace: Workspace) -> list[Path]:
    """The image files behind the rows of a feature folder: below data/, or below the synthetic set's folder."""
    index = features.index
    synth = workspace.synth(features.folder.name)
    roots = np.where(index["synthetic"].to_numpy(bool), str(synth), str(workspace.data))
    return [inside(Path(root), image) for root, image in zip(roots, index["image"], strict=True)]
