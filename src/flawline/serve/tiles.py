"""Large pictures with small defects: the whole picture and overlapping tiles of it, each seen at the backbone's size.

N tiles a side overlap by a quarter. In the finished map a tile is S pixels a side, S the backbone's input size, so the
map has M = S + (N - 1) · stride pixels a side and tile maps are blended without being resampled. Where tiles overlap,
their weights are sin² ramps that sum to one (a cosine window, flat where a tile is alone).

Dimensions: V = 1 + N² views a picture, the whole first, then the tiles in raster order; N = 1: the whole alone.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

OVERLAP = 0.25
MOST = 8


@dataclass(frozen=True)
class Tiling:
    """N x N tiles over a picture, for a backbone that sees S x S pixels.

    Attributes:
        count: N, 1 to MOST. side: S.

    Raises:
        FlawlineError: another number of tiles.
    """

    count: int
    side: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise FlawlineError(f"tiles: {self.count} is not possible", f"give 1 to {MOST}")

    @property
    def views(self) -> int:
        """V, pictures that one picture becomes."""
        return 1 if self.count == 1 else 1 + self.count**2

    @property
    def stride(self) -> int:
        """Pixels of the map from one tile to the next."""
        return round(self.side * (1 - OVERLAP))

    @property
    def map_side(self) -> int:
        """M, pixels a side of the finished map; S without tiles."""
        return self.side + (self.count - 1) * self.stride

    def split(self, picture: "Image.Image") -> "list[Image.Image]":
        """The V views of a picture of any size: RGB, S x S pixels; the whole is squashed as without tiles."""
        from PIL import Image

        rgb = picture.convert("RGB")
        sides = (self.side, self.side)
        whole = rgb if rgb.size == sides else rgb.resize(sides, Image.Resampling.BICUBIC)
        if self.count == 1:
            return [whole]
        across, down = rgb.width / self.map_side, rgb.height / self.map_side
        views = [whole]
        for top in self._starts:
            for left in self._starts:
                box = (
                    left * across,
                    top * down,
                    min((left + self.side) * across, rgb.width),
                    min((top + self.side) * down, rgb.height),
                )
                views.append(rgb.resize(sides, Image.Resampling.BICUBIC, box=box))
        return views

    @property
    def _starts(self) -> list[int]:
        return [k * self.stride for k in range(self.count)]

    @cached_property
    def weights(self) -> np.ndarray:
        """How much each tile of a row counts along the map: float32 [N, M], each column sums to one."""
        lap = self.side - self.stride
        rise = np.sin(np.pi / 2 * (np.arange(lap) + 0.5) / lap) ** 2
        found = np.zeros((self.count, self.map_side))
        for number, start in enumerate(self._starts):
            window = np.ones(self.side)
            if number > 0:
                window[:lap] = rise
            if number < self.count - 1:
                window[-lap:] = 1 - rise
            found[number, start : start + self.side] = window
        return found.astype(np.float32)

    def blend(self, maps: "Tensor") -> "Tensor":
        """Maps of the views [V, …, S, S] → the picture's [..., M, M]: the mean of the whole's and of the tiles'.

        The whole picture's map is stretched bilinearly; the tiles' are blended by `weights`.
        """
        import torch
        import torch.nn.functional as F

        if self.count == 1:
            return maps[0]
        flat = maps.reshape(len(maps), -1, *maps.shape[-2:])
        size = (self.map_side, self.map_side)
        whole = F.interpolate(flat[:1], size=size, mode="bilinear", align_corners=False)[0]
        tiled = torch.zeros_like(whole)
        weights = torch.from_numpy(self.weights).to(maps)
        for number, values in enumerate(flat[1:]):
            row, column = divmod(number, self.count)
            top, left = self._starts[row], self._starts[column]
            down, across = slice(top, top + self.side), slice(left, left + self.side)
            tiled[:, down, across] += values * (weights[row, down, None] * weights[column, across])
        return ((whole + tiled) / 2).reshape(*maps.shape[1:-2], *size)
