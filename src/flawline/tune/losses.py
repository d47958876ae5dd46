"""Losses that methods share, by the name a tuning stage gives them.

Inputs are probabilities, as in the released code of AnomalyCLIP, FAPrompt and DAPO. Dimensions: B images,
C classes (0 = good), S pixels a side of the masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.prompts.shared.batches import Batch, Prediction
from flawline.prompts.shared.maps import upsample

_FOCAL_SMOOTHING = 1e-5


def image_ce(image: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the image's anomaly probability [B, C] against labels 0/1 [B]."""
    anomalous = (1 - image[:, 0]).clamp(1e-6, 1 - 1e-6)
    return -torch.where(labels == 1, anomalous.log(), (1 - anomalous).log()).mean()


def focal(maps: Tensor, masks: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 4, no class weights) of anomaly maps [B, S, S] against masks [B, S, S]."""
    target = masks.float().clamp(_FOCAL_SMOOTHING, 1 - _FOCAL_SMOOTHING)
    right = target * maps + (1 - target) * (1 - maps) + _FOCAL_SMOOTHING
    return (-((1 - right).clamp(min=0) ** gamma) * right.log()).mean()


def dice(maps: Tensor, masks: Tensor) -> Tensor:
    """1 - (2·overlap + 1)/(sum + 1) an image, averaged over the batch."""
    a, b = maps.flatten(1), masks.float().flatten(1)
    return (1 - (2 * (a * b).sum(1) + 1) / (a.sum(1) + b.sum(1) + 1)).mean()


def orthogonality(features: Tensor) -> Tensor:
    """Sum over pairs of |cosine| of features [..., K, D]; K(K-1)/2 where all are parallel."""
    unit = F.normalize(features, dim=-1)
    return (unit @ unit.mT).abs().triu(diagonal=1).sum((-2, -1))


def shared_losses(names: set[str], batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
    """Those of `image_ce`, `focal` and `dice` that are named, summed over the levels of the image path; dice
    counts anomalous and good pixels alike."""
    found: dict[str, Tensor] = {}
    if "image_ce" in names:
        found["image_ce"] = image_ce(prediction.image, batch.labels)
    if names & {"focal", "dice"}:
        levels = (1 - prediction.patches[..., 0]).unbind(1)
        maps = [upsample(level, batch.masks.shape[-1]) for level in levels]
        if "focal" in names:
            found["focal"] = torch.stack([focal(one, batch.masks) for one in maps]).sum()
        if "dice" in names:
            both = [dice(one, batch.masks) + dice(1 - one, ~batch.masks) for one in maps]
            found["dice"] = torch.stack(both).sum()
    return found


def total(weights: dict[str, float], terms: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the terms that a stage names."""
    return torch.stack([weight * terms[name] for name, weight in sorted(weights.items())]).sum()
