"""A random backbone and a training set in which defective patches point another way than good ones."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flawline.clip.backbone import Backbone, load_backbone
from flawline.prompts.shared.batches import Inputs
from flawline.settings import BackboneSettings
from flawline.tune.loop import TuningData


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    settings = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=3)
    return load_backbone(settings, Path())


@pytest.fixture
def data(tiny: Backbone) -> TuningData:
    generator = torch.Generator().manual_seed(1)
    n, grid = 24, tiny.grid
    labels = torch.tensor([0] * 8 + [1] * 16)
    masks = torch.zeros(n, 64, 64, dtype=torch.bool)
    masks[8:, 16:40, 8:32] = True
    small = F.interpolate(masks[:, None].float(), size=(grid, grid), mode="area")[:, 0].flatten(1)
    defect = F.normalize(torch.randn(tiny.dim, generator=generator), dim=0)
    patches = torch.randn(n, grid * grid, tiny.dim, generator=generator) * 0.3 / tiny.dim**0.5
    patches = F.normalize(patches + 0.2 + small[..., None] * defect * 3, dim=-1)
    cls = F.normalize(patches.mean(1), dim=-1)
    return TuningData(Inputs(cls, patches[:, None].half(), ["gear"] * n), masks, labels)
