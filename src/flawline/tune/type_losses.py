"""Class maps of several defect types, and the losses on them.

Inputs are probabilities. Dimensions: B images, N patches, C classes (0 = good), S pixels a side of the masks.
CODE: as DAPO's released code computes them, corners aligned in upsampling, no class weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.prompts.shared.maps import finish_maps
from flawline.tune.losses import dice

_FOCAL_SMOOTHING = 1e-5


def class_maps(values: Tensor, size: int, sigma: float = 0.0) -> Tensor:
    """Patch values [B, N, C] → [B, C, size, size]: bilinear, corners aligned; Gaussian of `sigma` pixels if above 0."""
    grid = round(values.shape[1] ** 0.5)
    square = values.mT.unflatten(-1, (grid, grid)).float()
    maps = F.interpolate(square, size=(size, size), mode="bilinear", align_corners=True)
    return finish_maps(maps.flatten(0, 1).flatten(1), size, sigma).reshape(maps.shape) if sigma > 0 else maps


def foreground(masks: Tensor, rule: str) -> Tensor:
    """Bool masks [B, S, S] to train on, from bool masks or from values 0..1.

    `threshold`: at one half. `truncate`: only pixels of value 1, as DAPO's released code takes masks that were
    resized; a bool mask does not tell which those were and loses its outermost pixels instead.
    """
    if masks.dtype != torch.bool:
        return masks >= 1.0 if rule == "truncate" else masks > 0.5
    if rule == "threshold":
        return masks
    outside = F.max_pool2d((~masks).float()[:, None], 3, 1, 1)[:, 0]
    return outside == 0


def type_focal(maps: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Multi-class focal loss of probabilities [B, C, S, S] against classes int64 [B, S, S]; labels are smoothed."""
    right = maps.gather(1, target[:, None])[:, 0]
    wrong = maps.sum(1) - right
    smooth = _FOCAL_SMOOTHING
    p = (1 - smooth) * right + smooth / (maps.shape[1] - 1) * wrong + smooth
    return (-((1 - p) ** gamma) * p.log()).mean()


def level_losses(maps: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Focal, dice of good and dice of the summed defects for one level's maps [B, C, S, S]."""
    marked = target > 0
    return type_focal(maps, target), dice(maps[:, 0], ~marked), dice(maps[:, 1:].sum(1), marked)
