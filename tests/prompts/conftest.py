"""A small random backbone: what is tested here does not depend on what CLIP has learned."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flawline.clip.backbone import Backbone, load_backbone
from flawline.prompts.base import Batch
from flawline.settings import BackboneSettings


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    settings = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=3)
    return load_backbone(settings, Path())


@pytest.fixture
def batch(tiny: Backbone) -> Batch:
    """Eight images' features, half of them anomalous, with masks."""
    generator = torch.Generator().manual_seed(5)
    n, patches = 8, tiny.grid**2
    cls = F.normalize(torch.randn(n, tiny.dim, generator=generator), dim=-1)
    tokens = F.normalize(torch.randn(n, patches, tiny.dim, generator=generator), dim=-1)
    labels = torch.tensor([0, 1] * (n // 2))
    masks = (torch.rand(n, 64, 64, generator=generator) < 0.2) & (labels[:, None, None] == 1)
    return Batch(cls, tokens, labels, masks, ["steel bracket"] * n)
