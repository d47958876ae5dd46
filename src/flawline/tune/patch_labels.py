"""Pixel masks as patch labels, and cross-entropy a patch: the minimal local loss of Human-Free (reconstruction,
sections 4 D and 6; CHOICE).

Dimensions: B images, S pixels a side of the masks, L levels, N = grid² patches, C classes (0 = good).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Partial = Literal["ignore", "good"]


def patch_shares(masks: Tensor, patches: int) -> Tensor:
    """Share of each patch's area that masks bool [B, S, S] mark: float [B, N]."""
    grid = round(patches**0.5)
    return F.adaptive_avg_pool2d(masks[:, None].float(), grid)[:, 0].flatten(1)


def patch_labels(masks: Tensor, patches: int, positive: float, partial: Partial) -> tuple[Tensor, Tensor]:
    """Labels of patches, and which of them count: bool [B, N] each.

    Args:
        masks: bool [B, S, S].
        patches: N.
        positive: a patch is anomalous when more than this share of it is marked.
        partial: what a patch is that is marked, but not that much: left out, or good.
    """
    share = patch_shares(masks, patches)
    anomalous = share > positive
    counted = anomalous | (share == 0) if partial == "ignore" else share >= 0
    return anomalous, counted


def patch_ce(probabilities: Tensor, masks: Tensor, positive: float, partial: Partial) -> Tensor:
    """Cross-entropy of patch probabilities [B, L, N, C], the mean of the patches that count, summed over L."""
    anomalous, counted = patch_labels(masks, probabilities.shape[2], positive, partial)
    score = (1 - probabilities[..., 0]).clamp(1e-6, 1 - 1e-6)
    target = anomalous[:, None].expand_as(score)
    each = F.binary_cross_entropy(score, target.to(score.dtype), reduction="none")
    return (each * counted[:, None]).sum((0, 2)).div(counted.sum().clamp(min=1)).sum()
