"""Loading: weights from every source, faults told in one line, and what a backbone says of itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from flawline.clip.backbone import Backbone, load_backbone
from flawline.errors import FlawlineError
from flawline.settings import BackboneSettings

GOLDEN = Path(__file__).parent.parent / "golden"


def settings(**given: Any) -> BackboneSettings:
    return BackboneSettings(**({"name": "flawline-tiny", "weights": "none"} | given))


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: value.half() for name, value in tiny.model.state_dict().items()}, path)
    return path


def test_dimensions_follow_the_model(tiny: Backbone) -> None:
    visual = tiny.model.visual
    assert tiny.grid * tiny.patch_size == tiny.image_size == visual.image_size[0]
    assert tiny.dim == visual.proj.shape[1]
    assert tiny.vision_width == visual.conv1.weight.shape[0]
    assert tiny.vision_layers == len(visual.transformer.resblocks)
    assert tiny.text_width == tiny.model.token_embedding.weight.shape[1]
    assert tiny.text_layers == len(tiny.model.transformer.resblocks)
    assert tiny.context_length == 77
    assert tiny.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_frozen_for_good(tiny: Backbone) -> None:
    tiny.train()
    assert not tiny.training and not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.parameters())


def test_random_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = load_backbone(settings(seed=4), tmp_path)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = load_backbone(settings(seed=4), tmp_path)
    other = load_backbone(settings(seed=5), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256


def test_half_precision_file_fills_a_float32_model(weight_file: Path, tiny: Backbone) -> None:
    loaded = load_backbone(settings(weights=weight_file.name), weight_file.parent)
    state, stored = loaded.model.state_dict(), load_file(weight_file)
    assert all(value.dtype == torch.float32 for value in state.values())
    assert all(torch.equal(state[name], value.float()) for name, value in stored.items())
    assert loaded.weights_sha256 != tiny.weights_sha256
    assert loaded.card()["weights_sha256"] == loaded.weights_sha256


def test_fingerprint_knows_the_image_size(weight_file: Path) -> None:
    usual = load_backbone(settings(weights=weight_file.name), weight_file.parent)
    larger = load_backbone(
        settings(weights=weight_file.name, image_size=usual.image_size * 2), weight_file.parent
    )
    assert larger.grid == 2 * usual.grid and larger.image_size == 2 * usual.image_size
    assert usual.weights_sha256 == larger.weights_sha256
    assert usual.fingerprint != larger.fingerprint


def test_position_embedding_is_resized_as_the_released_code_does(
    tmp_path: Path, make_weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 5×5 to 7×7, against a recorded tensor."""
    from flawline.clip.registry import open_clip

    config = make_weights.MODEL_CONFIGS["l14"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "golden", config)
    state = {
        name: torch.from_numpy(np.array(v)) for name, v in make_weights.clip_state_dict("l14", 20240).items()
    }
    save_file(state, tmp_path / "golden.safetensors")
    loaded = load_backbone(settings(name="golden", weights="golden.safetensors", image_size=98), tmp_path)
    want = load_file(GOLDEN / "clip_l14.safetensors")["resize_98.position_embedding_bicubic"]
    have = loaded.model.visual.positional_embedding
    assert loaded.grid == 7
    assert torch.allclose(have, want, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "flawline-tny"}, "flawline-tiny"),
        ({"name": "vit-b-16-plus-240"}, "ViT-B-16-plus-240"),
        ({"name": "RN50"}, "ResNet"),
        ({"name": "MobileCLIP-S1"}, "timm"),
        ({"name": "coca_ViT-B-32"}, "CoCa"),
        ({"name": "roberta-ViT-B-32"}, "Hugging Face"),
        ({"name": "ViT-L-14-CLIPA"}, "Hugging Face"),
        ({"image_size": 100}, "multiple of the patch size 8"),
        ({"weights": "missing.safetensors"}, "missing.safetensors is missing"),
        ({"weights": "old.pt"}, "convert it"),
        ({"weights": "laion400m_e32"}, "no open_clip tag"),
        ({"name": "ViT-B-32", "weights": "openai"}, "ViT-B-32-quickgelu"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(FlawlineError) as caught:
        load_backbone(settings(**given), tmp_path)
    assert told in str(caught.value)
    assert "backbone." in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, tiny: Backbone) -> None:
    state = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    state["visual.proj"] = state["visual.proj"][:, :5].clone()
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(FlawlineError, match=r"other\.safetensors does not fit"):
        load_backbone(settings(weights="other.safetensors"), tmp_path)
    del state["visual.proj"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(FlawlineError, match=r"less\.safetensors does not fit .*visual\.proj"):
        load_backbone(settings(weights="less.safetensors"), tmp_path)


def test_a_broken_weight_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(FlawlineError, match=r"broken\.safetensors cannot be read"):
        load_backbone(settings(weights="broken.safetensors"), tmp_path)


def test_a_failed_download_asks_for_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flawline.clip.registry import open_clip

    def offline(*_: object, **__: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    with pytest.raises(FlawlineError, match="no route to host") as caught:
        load_backbone(settings(name="ViT-B-32", weights="laion2b_e16"), tmp_path)
    assert "local .safetensors file" in caught.value.remedy


def test_preprocess_squashes_normalises_and_takes_any_mode(tiny: Backbone) -> None:
    flat = Image.new("RGB", (300, 90), (255, 0, 51))
    out = tiny.preprocess(flat)
    assert out.shape == (3, tiny.image_size, tiny.image_size) and out.dtype == torch.float32
    want = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(tiny.mean)) / torch.tensor(tiny.std)
    assert torch.allclose(out, want[:, None, None].expand_as(out), atol=1e-6)
    grey = tiny.preprocess(Image.new("L", (40, 40), 128))
    assert torch.equal(grey, tiny.preprocess(Image.new("RGB", (40, 40), (128, 128, 128))))


def test_preprocess_is_the_plain_formula_to_the_last_bit(tiny: Backbone) -> None:
    """A table of 256 values a channel, not arithmetic on every pixel."""
    side = tiny.image_size
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    values = torch.from_numpy(picture.astype(np.float32) / 255.0)
    wanted = ((values - torch.tensor(tiny.mean)) / torch.tensor(tiny.std)).permute(2, 0, 1)
    assert torch.equal(tiny.preprocess(Image.fromarray(picture)), wanted)


def test_preprocess_antialiases(tiny: Backbone) -> None:
    """A one-pixel checkerboard eight times too fine becomes flat grey, not a moiré."""
    side = tiny.image_size * 8
    board = np.indices((side, side)).sum(0) % 2 * 255
    out = tiny.preprocess(Image.fromarray(board.astype(np.uint8)))
    assert float(out.std(dim=(1, 2)).max()) < 0.05


def test_tokenize_is_open_clips_and_refuses_to_cut(tiny: Backbone) -> None:
    from flawline.clip.registry import open_clip

    sentences = ["a photo of a Scratched metal-nut", "ümläut £5", ""]
    assert torch.equal(tiny.tokenize(sentences), open_clip.tokenize(sentences))
    with pytest.raises(FlawlineError, match="has 82 tokens"):
        tiny.tokenize(["nut " * 80])


@pytest.mark.slow
def test_a_large_random_model_loads_and_sees(tmp_path: Path) -> None:
    """ViT-B-16-plus-240: nothing is tied to the tiny model."""
    from flawline.clip.image_path import encode_image
    from flawline.settings import ImagePath

    loaded = load_backbone(settings(name="ViT-B-16-plus-240"), tmp_path)
    assert (loaded.grid, loaded.dim, loaded.vision_width) == (15, 640, 896)
    image = loaded.preprocess(Image.effect_noise((300, 200), 40))[None]
    read = encode_image(loaded, image, {"laa": ImagePath(attention="vv", first_block=0.5, radius=2)})["laa"]
    with torch.no_grad():
        want = loaded.model.encode_image(image, normalize=True)
    assert torch.allclose(read.cls, want, atol=1e-5)
    assert read.patches.shape == (1, 1, 225, 640)
