"""Text features of good and of many ways to be defective, and the losses that need good images only. No method.

FACT: the three losses are PromptAD's (CVPR 2024, sections 3.2 and 3.3). CODE: which axis the margin sums over.

Dimensions: B images, N tokens an image, D joint, P normal prompts, R hand-written and Q learned abnormal ones.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class OneClassText:
    """Raw text features: normal [P, D], manual [R, D], learned [Q, D]."""

    normal: Tensor
    manual: Tensor
    learned: Tensor

    @property
    def pair(self) -> Tensor:
        """Unit prototypes [2, D]: the mean of what is good, the mean of all that is defective."""
        abnormal = torch.cat([self.manual, self.learned])
        return F.normalize(torch.stack([self.normal.mean(0), abnormal.mean(0)]), dim=-1)

    @property
    def negatives(self) -> Tensor:
        """Every defective feature, each of unit length: [R + Q, D]."""
        return F.normalize(torch.cat([self.manual, self.learned]), dim=-1)

    def losses(self, features: Tensor, scale: float, margin: float, over: int = -1) -> dict[str, Tensor]:
        """What draws good unit features [B, N, D] to the normal prototype.

        Args:
            features: of good images.
            scale: what cosines are multiplied with.
            margin: of the hinge.
            over: the axis that squared distances are summed over before the hinge: -1 the features (paper), 1 the
                tokens (released code for maps).

        Returns:
            contrastive: cross-entropy of the normal prototype against every defective feature. margin: mean hinge
            of the distances to both prototypes. match: squared distance of the mean unit manual and learned feature.
        """
        normal, abnormal = self.pair
        logits = scale * features @ torch.cat([normal[None], self.negatives]).T
        near, far = (((features - prototype) ** 2).sum(over) for prototype in (normal, abnormal))
        manual, learned = (F.normalize(part, dim=-1).mean(0) for part in (self.manual, self.learned))
        return {
            "contrastive": -logits.log_softmax(-1)[..., 0].mean(),
            "margin": F.relu(near - far + margin).mean(),
            "match": ((manual - learned) ** 2).sum(),
        }
