"""Window features: the image tower run on a few neighbouring patches alone (WinCLIP, CVPR 2023, section 4.1).

A mask that hides everything but the class token and a window's patches from each other is the same as a short
sequence of just these tokens, after position embedding and first norm; the short one is cheaper.

Dimensions: B images, n windows, k patches a window, N patches an image, W width, D joint.
"""

import torch
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import image_feature
from flawline.errors import FlawlineError

# Tokens in one pass: about as much as a batch of full images; window counts grow fast with the grid.
_TOKENS = 16384


def windows(grid: int, side: int, stride: int = 1) -> Tensor:
    """Windows of side x side patches: patch numbers int64 [n, side²], raster order from 0.

    Args:
        grid: patches a side of the image.
        side: patches a side of a window.
        stride: patches between windows, at most `side`; the last one always ends at the border, so every patch
            is covered.

    Raises:
        FlawlineError: the image has no window of that size.
    """
    if side > grid:
        raise FlawlineError(
            f"a window of {side}x{side} patches does not fit an image of {grid}x{grid} patches",
            "name smaller windows or use larger images",
        )
    starts = sorted({*range(0, grid - side + 1, min(stride, side)), grid - side})
    places = torch.arange(grid * grid).view(grid, grid).unfold(0, side, 1).unfold(1, side, 1)
    return places[starts][:, starts].reshape(-1, side * side)


@torch.no_grad()
def encode_windows(backbone: Backbone, images: Tensor, places: Tensor) -> Tensor:
    """Unit features [B, n, D] of windows, read where the tower reads an image's feature.

    That is the class token, or the mean of the window's own patches in a tower that pools by the mean.

    Args:
        backbone: the frozen CLIP.
        images: [B, 3, S, S] as `Backbone.preprocess` makes them.
        places: patch numbers of the windows, int64 [n, k].
    """
    tokens = backbone.visual._embeds(images.to(backbone.device))
    places = places.to(tokens.device)
    count, length = len(places), places.shape[1] + 1
    found = tokens.new_empty(len(tokens) * count, backbone.dim)
    owner = torch.arange(len(tokens), device=tokens.device).repeat_interleave(count)
    which = torch.arange(count, device=tokens.device).repeat(len(tokens))
    for rows in torch.arange(len(owner), device=tokens.device).split(max(1, _TOKENS // length)):
        patches = tokens[owner[rows, None], 1 + places[which[rows]]]
        x = torch.cat([tokens[owner[rows], :1], patches], dim=1)
        for block in backbone.visual.transformer.resblocks:
            x = block(x)
        found[rows] = image_feature(backbone, x)
    return found.view(len(tokens), count, backbone.dim)


def spread(scores: Tensor, places: Tensor, patches: int) -> Tensor:
    """Window scores [B, n] → patch scores [B, N]: the harmonic mean over the windows that cover a patch.

    A score of 0 makes the mean 0, as its limit does.
    """
    covers = torch.zeros(len(places), patches, dtype=scores.dtype, device=scores.device)
    covers.scatter_(1, places.to(scores.device), 1.0)
    inverse = scores.clamp(min=torch.finfo(scores.dtype).tiny).reciprocal()
    return covers.sum(0) / (inverse @ covers)
