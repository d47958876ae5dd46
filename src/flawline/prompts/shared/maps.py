"""From patch probabilities to anomaly maps."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def upsample(patches: Tensor, size: int) -> Tensor:
    """Patch values [B, N] in raster order of a square grid → [B, size, size], bilinear."""
    grid = round(patches.shape[1] ** 0.5)
    square = patches.reshape(len(patches), 1, grid, grid)
    return F.interpolate(square, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def finish_maps(patches: Tensor, size: int, sigma: float) -> Tensor:
    """Anomaly maps [B, size, size] in 0..1: bilinear, then SciPy's Gaussian of `sigma` pixels (0: none)."""
    maps = upsample(patches.float(), size)
    if sigma <= 0:
        return maps
    smoothed = np.stack([ndimage.gaussian_filter(m, sigma, mode="reflect") for m in maps.numpy()])
    return torch.from_numpy(smoothed)
