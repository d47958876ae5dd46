"""PromptAD's released layout: prototypes and memory of each product; and what is no such pair of files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.importers import promptad, run
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported
from flawline.prompts.shared.batches import Inputs
from golden import make_weights
from golden.prompt_case import relative

from .conftest import settings_of
from .released import case, save_promptad


def read(files: list[Path], backbone: Backbone) -> Imported:
    return promptad.read([Checkpoint.open(file) for file in files], backbone)


def changed(file: Path, **tensors: torch.Tensor | None) -> None:
    """Save a checkpoint again with some tensors other, or left out."""
    value = torch.load(file, weights_only=True) | tensors
    torch.save({key: tensor for key, tensor in value.items() if tensor is not None}, file)


@pytest.mark.parametrize("half", [False, True])
def test_prototypes_and_memory_of_each_product(half: bool, b16plus: Backbone, tmp_path: Path) -> None:
    files = [*save_promptad(tmp_path, "metal_nut", half), *save_promptad(tmp_path, "pill v2.1", half)]
    found = read(files, b16plus)
    gold, error = case("promptad_cls")[0], 1e-3 if half else 0
    for product in ("metal_nut", "pill v2.1"):
        memory = found.state[f"memory.{product}"]
        assert memory.shape == (2, 50, 128) and memory.dtype == torch.float32
        assert (memory[1] - gold["out.memory_2"]).abs().max() <= error
        for branch in ("cls", "seg"):
            wanted = case(f"promptad_{branch}")[0]["out.gallery_text"]
            assert (found.state[f"adapted.{product}/{branch}.pair"] - wanted).abs().max() <= error
    assert found.options["shots"] == 2 and found.told["products"] == ["metal_nut", "pill v2.1"]
    assert found.told["seeds"]["metal_nut"] == {"CLS": 111, "SEG": 111}
    assert found.options["smoothing"] == pytest.approx(4 * 80 / 400)
    assert {role: path.levels for role, path in found.paths.items()} == {
        "main": [1.0], "memory": [4], "memory_2": [9],
    }  # fmt: skip


def test_both_files_of_a_product_are_needed(b16plus: Backbone, tmp_path: Path) -> None:
    cls, seg = save_promptad(tmp_path, "pill")
    for files, told in (
        ([cls], "'pill' has no SEG file"),
        ([seg], "'pill' has no CLS file"),
        ([cls, seg, cls], "two CLS files of 'pill'"),
    ):
        with pytest.raises(FlawlineError, match=told):
            read(files, b16plus)


def test_the_name_tells_the_product(b16plus: Backbone, tmp_path: Path) -> None:
    cls, _ = save_promptad(tmp_path, "pill")
    with pytest.raises(FlawlineError, match=r"x\.pt: the name tells neither task nor product"):
        read([cls.rename(tmp_path / "x.pt")], b16plus)


def test_the_two_files_remember_the_same_images(b16plus: Backbone, tmp_path: Path) -> None:
    files = save_promptad(tmp_path, "pill")
    changed(files[1], feature_gallery1=torch.zeros(50, 128))
    with pytest.raises(FlawlineError, match="'pill' remember different good images"):
        read(files, b16plus)


def test_products_have_equally_many_shots(b16plus: Backbone, tmp_path: Path) -> None:
    files = [*save_promptad(tmp_path, "pill"), *save_promptad(tmp_path, "nut")]
    for file in files[2:]:
        changed(file, feature_gallery1=torch.zeros(25, 128), feature_gallery2=torch.zeros(25, 128))
    with pytest.raises(FlawlineError, match=r"files of \[1, 2\] shots"):
        read(files, b16plus)


def golden_inputs(detector: Detector, name: str, count: int) -> Inputs:
    """Golden images as the imported set reads them."""
    pixels = torch.from_numpy(make_weights.images(name, count, 80, 31))
    read = encode_image(detector.method.backbone, pixels, detector.paths)
    more = {role: encoded.patches for role, encoded in read.items() if role != "main"}
    main = read["main"]
    return Inputs(main.cls, main.patches, ["metal nut"] * count, more, None, ["metal_nut"] * count)


@pytest.mark.parametrize("half", [False, True])
def test_the_imported_prompt_set_gives_the_released_outputs(half: bool, home: Path, tmp_path: Path) -> None:
    files, most = save_promptad(tmp_path, "metal_nut", half), 5e-3 if half else 1e-4
    four = {"smoothing": 4.0}  # the golden maps have 80 pixels a side, not 400
    folder = run.run("promptad", files, tmp_path / "set", home, settings_of("b16plus"), four)
    detector = Detector.open(folder, home)
    scores, maps = detector.method.score(golden_inputs(detector, "images", 4), 80)
    assert relative(scores, case("promptad_cls")[0]["test.score"]) < most
    assert relative(maps, case("promptad_seg")[0]["test.map"]) < most


def test_imported_products_stay_as_they_are_when_good_images_are_given(home: Path, tmp_path: Path) -> None:
    """As an evaluation gives them; a product that was not imported is remembered."""
    files = save_promptad(tmp_path, "metal_nut")
    folder = run.run("promptad", files, tmp_path / "set", home, settings_of("b16plus"))
    detector = Detector.open(folder, home)
    inputs, others = golden_inputs(detector, "images", 4), golden_inputs(detector, "support", 2)
    before = detector.method.score(inputs, 80)
    both = replace(inputs.rows(torch.tensor([0, 1])), categories=["metal_nut", "pill"])
    detector.method.remember(both)
    detector.method.remember(others)
    after = detector.method.score(inputs, 80)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert detector.method.score(replace(inputs, categories=["pill"] * 4), 80)[0].shape == (4,)
    assert all(value.ndim == 2 for value in detector.method.learned_tokens().values())


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            {"text_features": torch.zeros(2, 640)},
            r"text_features: expected shape \[2, 128\], found \[2, 640\]",
        ),
        (
            {"feature_gallery1": torch.zeros(50, 896)},
            r"gallery1: expected shape \[any, 128\], found \[50, 896\]",
        ),
        (
            {"feature_gallery1": torch.zeros(49, 128)},
            r"expected shape \[multiple of 25, 128\], found \[49, 128\]",
        ),
        (
            {"feature_gallery2": torch.zeros(25, 128)},
            r"gallery2: expected shape \[50, 128\], found \[25, 128\]",
        ),
        ({"feature_gallery2": None}, "lacks feature_gallery2"),
        ({"model.logit_scale": torch.zeros(1)}, r"holds model\.logit_scale"),
    ],
)
def test_faults_are_told_in_one_line(
    tensors: dict[str, torch.Tensor | None], told: str, b16plus: Backbone, tmp_path: Path
) -> None:
    files = save_promptad(tmp_path, "pill")
    changed(files[0], **tensors)
    with pytest.raises(FlawlineError, match=told) as caught:
        read(files, b16plus)
    assert "CLS-Seed_111-pill-check_point.pt" in str(caught.value) and "\n" not in str(caught.value)
