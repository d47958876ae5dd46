"""The place that raised the alarm, cut out and seen by CLIP.

Dimensions: n pictures, S pixels a side of an anomaly map, D joint.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from PIL import Image

    from flawline.clip.backbone import Backbone

Box = tuple[int, int, int, int]
_SMOOTH = 3 / 128  # of the map's side: one hot pixel is no place
_BATCH = 32


def box_of(values: np.ndarray, size: tuple[int, int], share: float) -> Box:
    """A square around the anomaly map's peak, moved so that it lies inside the picture.

    Args:
        values: anomaly map [S, S], stretched over the picture.
        size: width and height of the picture in pixels.
        share: side of the square, as a share of the picture's shorter side.

    Returns:
        left, upper, right, lower in pixels.
    """
    smooth = gaussian_filter(np.asarray(values, dtype=np.float64), _SMOOTH * max(values.shape))
    row, column = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    width, height = size
    side = max(1, round(share * min(size)))
    across, down = (column + 0.5) / values.shape[1] * width, (row + 0.5) / values.shape[0] * height
    left = min(max(round(across - side / 2), 0), width - side)
    upper = min(max(round(down - side / 2), 0), height - side)
    return left, upper, left + side, upper + side


def embed(backbone: "Backbone", pictures: "Sequence[Image.Image]") -> np.ndarray:
    """CLIP's image features of pictures: [n, D] float32, unit length; the tower as it is, no local stream."""
    import torch

    from flawline.clip.image_path import encode_image
    from flawline.settings import ImagePath

    parts = []
    for start in range(0, len(pictures), _BATCH):
        pixels = torch.stack([backbone.preprocess(one) for one in pictures[start : start + _BATCH]])
        read = encode_image(backbone, pixels.to(backbone.device), {"crop": ImagePath()}, patches=False)[
            "crop"
        ]
        parts.append(read.cls.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, backbone.dim), dtype=np.float32)
