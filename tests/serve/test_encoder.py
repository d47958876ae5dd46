"""What a method does not read is not computed; plans agree with the plain pass."""

from typing import ClassVar

import pytest
import torch

from flawline.clip import products
from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.image_path import encode_image
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.base import PromptMethod
from flawline.serve.encoder import PLAIN, Encoder, Plan
from flawline.settings import BackboneSettings, ImagePath

PATHS = {"main": ImagePath(attention="vv", radius=1), "more": ImagePath(levels=[2])}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    settings = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=3)
    return load_backbone(settings, tmp_path_factory.getbasetemp())


@pytest.fixture
def method(backbone: Backbone) -> PromptMethod:
    return method_class("words")(backbone, method_options("words", {"image_path": "main"}), 0)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_plain_plan_is_encode_image_to_the_last_bit(method: PromptMethod, pixels: torch.Tensor) -> None:
    read = Encoder(method, PATHS, 8)(pixels)
    for role, wanted in encode_image(method.backbone, pixels, PATHS).items():
        assert torch.equal(read[role].cls, wanted.cls) and torch.equal(read[role].patches, wanted.patches)


def test_a_narrow_last_block_agrees(method: PromptMethod, pixels: torch.Tensor) -> None:
    read = Encoder(method, PATHS, 8, Plan(narrow=True))(pixels)
    for role, wanted in encode_image(method.backbone, pixels, PATHS).items():
        assert torch.allclose(read[role].cls, wanted.cls, atol=1e-5)
        assert torch.equal(read[role].patches, wanted.patches)


def test_bfloat16_comes_back_as_float32(method: PromptMethod, pixels: torch.Tensor) -> None:
    read = Encoder(method, PATHS, 8, Plan("bfloat16"))(pixels)["main"]
    wanted = encode_image(method.backbone, pixels, PATHS)["main"]
    assert read.cls.dtype == read.patches.dtype == torch.float32
    assert not torch.equal(read.patches, wanted.patches)
    assert (read.patches - wanted.patches).abs().max() < 0.05


@pytest.mark.skipif(not products.has_onednn(), reason="a torch without oneDNN")
def test_the_other_library_agrees(
    method: PromptMethod, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_WORTH_IT", 1)
    read = Encoder(method, PATHS, 8, Plan(onednn=True))(pixels)
    for role, wanted in encode_image(method.backbone, pixels, PATHS).items():
        assert torch.allclose(read[role].cls, wanted.cls, atol=1e-5)
        assert torch.allclose(read[role].patches, wanted.patches, atol=1e-5)
        assert not torch.equal(read[role].patches, wanted.patches)


def test_compiled_batches_are_filled_up_and_cut(
    method: PromptMethod, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile itself takes a minute; what is around it must give it one shape and hide that."""
    shapes: list[torch.Size] = []

    def compiler(function, dynamic):
        assert dynamic is False

        def compiled(given: torch.Tensor):
            shapes.append(given.shape)
            return function(given)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    encoder = Encoder(method, PATHS, 4, Plan(compiled=True))
    read = encoder(pixels)["main"]
    assert shapes == [(4, 3, 64, 64)]
    wanted = encode_image(method.backbone, pixels, PATHS)["main"]
    assert len(read.cls) == len(read.patches) == 3
    assert torch.allclose(read.patches, wanted.patches, atol=1e-5)


def test_what_is_not_read_is_not_computed(
    method: PromptMethod, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread:
        backbone: ClassVar[Backbone] = method.backbone
        reads_cls = False
        reads_patches = False

    blocks: list[int] = []
    for number, block in enumerate(method.backbone.visual.transformer.resblocks, 1):
        block.mlp.gelu.register_forward_hook(lambda *_, number=number: blocks.append(number))
    read = Encoder(Unread, PATHS, 8)(pixels)["main"]  # type: ignore[arg-type]
    assert read.cls.shape == (3, 0) and read.patches.shape == (3, 0, 0, 0) and blocks == []
    Unread.reads_patches = True
    shallow = {"main": ImagePath(levels=[2], space="tower")}
    read = Encoder(Unread, shallow, 8)(pixels)["main"]  # type: ignore[arg-type]
    wanted = encode_image(method.backbone, pixels, shallow)["main"]
    assert torch.equal(read.patches, wanted.patches) and read.cls.shape == (3, 0)
    assert blocks[:2] == [1, 2] and blocks[2] == 1  # two blocks, then the whole pass of the comparison


def test_plans_have_names() -> None:
    assert PLAIN.name == "float32" and Plan("bfloat16", True, True).name == "bfloat16 narrow compiled"
    assert Plan(narrow=True, onednn=True).name == "float32 narrow onednn"
