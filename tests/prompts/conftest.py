"""A small random backbone: what is tested here does not depend on what CLIP has learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.registry import open_clip
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.settings import BackboneSettings

GOLDEN = Path(__file__).parent.parent / "golden"


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
    tokens = F.normalize(torch.randn(n, 1, patches, tiny.dim, generator=generator), dim=-1)
    labels = torch.tensor([0, 1] * (n // 2))
    masks = (torch.rand(n, 64, 64, generator=generator) < 0.2) & (labels[:, None, None] == 1)
    pixels = torch.randn(n, 3, 64, 64, generator=generator)
    return Batch(Inputs(cls, tokens, ["steel bracket"] * n, {}, pixels), labels, masks)


@pytest.fixture(autouse=True)
def _few_shot_methods_have_their_support(request: pytest.FixtureRequest) -> None:
    """Whoever tests a `method` of any name: one that needs good images has been given some."""
    if {"method", "batch"} <= set(request.fixturenames):
        method, batch = request.getfixturevalue("method"), request.getfixturevalue("batch")
        if method.needs_support:
            if "epochs" in type(method.options).model_fields:  # some train on them: two steps show the same
                method.options = method.options.model_copy(update={"epochs": 2})
            method.remember(batch.inputs.rows(torch.tensor([0, 2])))


@pytest.fixture(scope="session")
def golden_b16plus(make_weights: Any) -> Backbone:
    """The tiny random ViT-B/16+ that the released code of PromptAD and WinCLIP was run on."""
    model = make_weights.build_open_clip("b16plus", 20240)
    open_clip.model.set_model_preprocess_cfg(model, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    return Backbone(model, BackboneSettings(name="ViT-B-16-plus-240", weights="none"))
