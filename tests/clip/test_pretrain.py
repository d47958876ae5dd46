import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from flawline.clip import pretrain
from flawline.clip.backbone import load_backbone
from flawline.clip.pretrain_data import open_bank
from flawline.errors import FlawlineError
from flawline.settings import BackboneSettings

RECIPE = pretrain.Recipe(steps=4, scenes=3, renders=4, warmup=1, whole_from=0.5)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    open_bank(folder / "pairs", 4, 128, 0, shard=2)
    return folder


def _cache(bank: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "pairs").symlink_to(bank / "pairs")
    return folder


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "_CHECKPOINT_EVERY", 2)
    whole = pretrain.run(tmp_path / "whole.safetensors", _cache(bank, tmp_path / "a"), RECIPE, shard=2)
    step = pretrain._step

    def killed(*arguments: object) -> float:
        if arguments[-1] == 3:
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    cache = _cache(bank, tmp_path / "b")
    monkeypatch.setattr(pretrain, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(tmp_path / "parts.safetensors", cache, RECIPE, shard=2)
    assert not (tmp_path / "parts.safetensors").exists()
    monkeypatch.setattr(pretrain, "_step", step)
    assert pretrain.run(tmp_path / "parts.safetensors", cache, RECIPE, shard=2) == whole


def test_weights_load_as_any_backbone_and_name_their_recipe(bank: Path, tmp_path: Path) -> None:
    recipe = pretrain.Recipe(steps=1, scenes=2, renders=4, warmup=1)
    file = tmp_path / "tiny.safetensors"
    pretrain.run(file, _cache(bank, tmp_path / "c"), recipe, shard=2)
    with safe_open(file, "pt") as weights:
        assert json.loads(weights.metadata()["recipe"])["steps"] == 1
    backbone = load_backbone(BackboneSettings(name=pretrain.MODEL, weights=file.name), tmp_path)
    assert backbone.grid == 16
    assert file.stat().st_size < 20_000_000


def test_training_features_are_open_clips_own(tmp_path: Path) -> None:
    backbone = load_backbone(BackboneSettings(name=pretrain.MODEL, weights="none"), tmp_path)
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled, patches = pretrain.encode_for_training(backbone.visual, images, 0.0)
        want = backbone.model.encode_image(images)
        ids = backbone.tokenize(["a crack", "a photo of a brass washer with a stain"])
        text = pretrain._encode_text(backbone.model, ids)
        assert torch.allclose(text, backbone.model.encode_text(ids), atol=1e-5)
    assert torch.allclose(pooled, want, atol=1e-5) and patches.shape == (2, 256, backbone.dim)


def test_bank_continues_where_it_stopped_and_repeats(bank: Path, tmp_path: Path) -> None:
    first = open_bank(bank / "pairs", 4, 128, 0, shard=2)
    again = open_bank(tmp_path / "pairs", 4, 128, 0, shard=2)
    (tmp_path / "pairs" / "128-0-0001.npy").unlink()
    mended = open_bank(tmp_path / "pairs", 4, 128, 0, shard=2)
    rows = np.arange(4)
    for other in (again, mended):
        pictures, captions = first.batch(rows, np.random.default_rng(1))
        same, same_captions = other.batch(rows, np.random.default_rng(1))
        assert np.array_equal(pictures, same) and captions == same_captions


def test_odd_number_of_renders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=r"--renders must be a multiple of 1000, got 10"):
        open_bank(tmp_path, 10, 128, 0)
