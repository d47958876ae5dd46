"""Small backbones for the tests of this folder, in all the shapes that open_clip's towers come in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.registry import open_clip
from flawline.settings import BackboneSettings

GOLDEN = Path(__file__).parent.parent / "golden"
VISION = {"image_size": 32, "layers": 4, "width": 48, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}
SHAPES: dict[str, dict[str, Any]] = {
    "tok": {},
    "avg": {"vision": {"pool_type": "avg"}},
    "avg-ln-after": {"vision": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}},
    "layerscale": {"vision": {"ls_init_value": 0.1}, "text": {"ls_init_value": 0.2}},
    "quickgelu": {"top": {"quick_gelu": True}},
    "own-text": {
        "top": {"custom_text": True},
        "text": {"context_length": 40, "layers": 2, "proj_bias": True},
    },
}


def make_backbone(shape: str = "tok", seed: int = 3, spread: float = 3.0) -> Backbone:
    """A random tiny backbone; attention weights are enlarged so that attention is far from uniform."""
    extra = SHAPES[shape]
    top = dict(extra.get("top", {}))
    custom = top.pop("custom_text", False)
    model_class = open_clip.model.CustomTextCLIP if custom else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(
            embed_dim=24,
            vision_cfg=VISION | extra.get("vision", {}),
            text_cfg=TEXT | extra.get("text", {}),
            **top,
        )
        for block in model.visual.transformer.resblocks:
            block.attn.in_proj_weight.data.mul_(spread)
        for name, value in model.named_parameters():  # biases and gains off neutral: a forgotten one shows
            if value.ndim == 1 and "logit" not in name:
                value.data.add_(0.1 * torch.randn_like(value))
    open_clip.model.set_model_preprocess_cfg(model, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})
    return Backbone(model, BackboneSettings(name="flawline-tiny", weights="none"))


@pytest.fixture(scope="session")
def golden_backbone(make_weights: Any) -> Backbone:
    """The tiny random ViT-L/14 that released code was run on."""
    model = make_weights.build_open_clip("l14", 20240)
    open_clip.model.set_model_preprocess_cfg(model, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    return Backbone(model, BackboneSettings(name="ViT-L-14-quickgelu", weights="none"))


@pytest.fixture(scope="session")
def backbone_of() -> Callable[..., Backbone]:
    """`backbone_of(shape)`: a random tiny backbone of one of SHAPES."""
    return make_backbone


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """flawline-tiny with random weights."""
    return load_backbone(BackboneSettings(name="flawline-tiny", weights="none"), Path("nowhere"))
