"""The golden backbones as a user would have them: an architecture open_clip knows, and a weight file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.registry import open_clip
from flawline.settings import BackboneSettings
from golden import make_weights


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with golden-l14.safetensors and golden-b16plus.safetensors in it."""
    folder = tmp_path_factory.mktemp("golden home")
    for variant, config in make_weights.MODEL_CONFIGS.items():
        (folder / f"golden-{variant}.json").write_text(json.dumps(config), encoding="utf-8")
        state = make_weights.clip_state_dict(variant, 20240)
        tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
        save_file(tensors, folder / f"golden-{variant}.safetensors")
        open_clip.add_model_config(folder / f"golden-{variant}.json")
    return folder


def settings_of(variant: str) -> BackboneSettings:
    return BackboneSettings(name=f"golden-{variant}", weights=f"golden-{variant}.safetensors")


@pytest.fixture(scope="session")
def l14(home: Path) -> Backbone:
    return load_backbone(settings_of("l14"), home)


@pytest.fixture(scope="session")
def b16plus(home: Path) -> Backbone:
    return load_backbone(settings_of("b16plus"), home)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return load_backbone(
        BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=3), Path()
    )
