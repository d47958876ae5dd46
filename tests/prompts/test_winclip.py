"""WinCLIP against a released re-implementation's numbers, and what must hold for any configuration."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.clip.windows import spread
from flawline.errors import FlawlineError
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.prompts.shared.sentences import ABNORMAL_STATES, NORMAL_STATES, sentences
from flawline.prompts.winclip import WinClip, WinClipOptions
from flawline.settings import ImagePath

GOLDEN = Path(__file__).parent.parent / "golden"


def _method(backbone: Backbone, **options: object) -> WinClip:
    return WinClip(backbone, WinClipOptions(image_path="plain", **options), 0)  # type: ignore[arg-type]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


# --- the released numbers ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def gold() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "winclip.safetensors")


def _inputs(backbone: Backbone, make_weights: Any, name: str, count: int) -> Inputs:
    pixels = torch.from_numpy(make_weights.images(name, count, 80, 31))
    read = encode_image(backbone, pixels, {"plain": ImagePath()})["plain"]
    return Inputs(read.cls, read.patches, ["metal nut"] * count, {}, pixels, ["metal_nut"] * count)


@pytest.fixture
def released(golden_b16plus: Backbone) -> WinClip:
    return _method(golden_b16plus, temperature=0.07, templates="released", noun="folder", shots=2)


def test_released_sentences_and_text(released: WinClip, gold: dict[str, torch.Tensor]) -> None:
    for states, tokens in ((NORMAL_STATES, "in.tokens_normal"), (ABNORMAL_STATES, "in.tokens_abnormal")):
        written = sentences(states, "metal_nut", released.photos())
        mine = sorted(map(tuple, released.backbone.tokenize(written)[:, :32].tolist()))
        assert mine == sorted(map(tuple, gold[tokens].tolist()))
    text = released.text_features("metal_nut")
    assert relative(text, gold["out.text"]) < 1e-4


def test_released_windows_and_zero_shot(
    released: WinClip, golden_b16plus: Backbone, make_weights: Any, gold: dict[str, torch.Tensor]
) -> None:
    inputs = _inputs(golden_b16plus, make_weights, "images", 4)
    assert relative(inputs.cls, F.normalize(gold["out.image_features_raw"], dim=-1)) < 1e-4
    seen = released.encode(inputs.pixels)  # type: ignore[arg-type]
    text = released.text_features("metal_nut")
    assert relative(seen["patch"], F.normalize(gold["out.patch_raw"], dim=-1)) < 1e-4
    for scale, name in (("window_3", "large"), ("window_2", "mid")):
        assert torch.equal(released.places[scale] + 1, gold[f"in.windows_{name}"])
        assert relative(seen[scale], F.normalize(gold[f"out.window_{name}_raw"], dim=-1)) < 1e-4
        probability = (seen[scale] @ text.T / 0.07).softmax(-1)[..., 1]
        assert relative(probability, gold[f"out.prob_{name}"]) < 1e-4
        grid = spread(probability, released.places[scale], 25).view(4, 5, 5)
        assert relative(grid, gold[f"out.map_{name}"]) < 1e-4
    scores, maps = released.score(inputs, 80)
    assert relative(scores, gold["test.score"]) < 1e-4
    assert relative(maps, gold["test.map"]) < 1e-4


def test_released_two_shot(
    released: WinClip, golden_b16plus: Backbone, make_weights: Any, gold: dict[str, torch.Tensor]
) -> None:
    released.remember(_inputs(golden_b16plus, make_weights, "support", 2))
    inputs = _inputs(golden_b16plus, make_weights, "images", 4)
    maps = released.memory_maps(inputs, released.encode(inputs.pixels))  # type: ignore[arg-type]
    for scale, name in (("window_3", "large"), ("window_2", "mid"), ("patch", "patch")):
        assert relative(maps[scale].view(4, 5, 5), gold[f"few.map_{name}"]) < 1e-4
    mean = torch.stack(list(maps.values())).mean(0)
    assert relative(mean.view(4, 5, 5), gold["few.map_grid"]) < 1e-4
    scores, found = released.score(inputs, 80)
    assert relative(scores, gold["few.score"]) < 1e-4
    assert relative(2 * found, gold["few.map"]) < 1e-4  # ours is halved, to stay in 0..1


# --- what holds for any configuration -----------------------------------------------------------------------
def _from_pixels(backbone: Backbone, batch: Batch) -> Inputs:
    assert batch.inputs.pixels is not None
    read = encode_image(backbone, batch.inputs.pixels, {"plain": ImagePath()})["plain"]
    return replace(batch.inputs, cls=read.cls, patches=read.patches)


def test_without_a_memory_few_shot_is_zero_shot(tiny: Backbone, batch: Batch) -> None:
    inputs = _from_pixels(tiny, batch)
    zero, few = _method(tiny), _method(tiny, shots=4)
    assert not zero.needs_support and few.needs_support
    before = few.score(inputs, 64)
    for mine, theirs in zip(zero.score(inputs, 64), before, strict=True):
        assert torch.equal(mine, theirs)
    few.remember(inputs.rows(torch.tensor([0, 1])))
    assert float((few.score(inputs, 64)[1] - before[1]).abs().max()) > 1e-3


def test_a_good_image_has_half_its_zero_shot_score(tiny: Backbone, batch: Batch) -> None:
    """Its own memory finds nothing strange, whatever the order of the good images."""
    inputs, good = _from_pixels(tiny, batch), torch.tensor([2, 0, 5])
    zero, few, turned = _method(tiny), _method(tiny, shots=3), _method(tiny, shots=3)
    few.remember(inputs.rows(good))
    turned.remember(inputs.rows(good.flip(0)))
    own = few.memory_maps(inputs.rows(good), few.encode(inputs.rows(good).pixels))  # type: ignore[arg-type]
    assert all(float(found.max()) < 1e-5 for found in own.values())
    plain, learned = zero.score(inputs, 64), few.score(inputs, 64)
    for alone, together in zip(plain, learned, strict=True):
        assert torch.allclose(together[good], alone[good] / 2, atol=1e-5)
    for one, other in zip(learned, turned.score(inputs, 64), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_memory_is_per_category(tiny: Backbone, batch: Batch) -> None:
    inputs = replace(_from_pixels(tiny, batch), categories=["gear", "mesh"] * 4)
    method = _method(tiny, shots=1)
    method.remember(inputs.rows(torch.tensor([0, 1])))
    right, _ = method.score(inputs.rows(torch.tensor([0, 1])), 64)
    wrong, _ = method.score(replace(inputs.rows(torch.tensor([0, 1])), categories=["mesh", "gear"]), 64)
    assert (wrong > right + 1e-3).all()
    with pytest.raises(FlawlineError, match="category 'bolt'"):
        method.score(replace(inputs, categories=["bolt"] * 8), 64)


def test_map_is_the_harmonic_mean_of_image_and_window_scales(tiny: Backbone, batch: Batch) -> None:
    inputs = _from_pixels(tiny, batch)
    method = _method(tiny, windows=[2, 4])
    seen = method.encode(inputs.pixels)  # type: ignore[arg-type]
    image, grid = method.zero_shot(inputs, seen)
    text = method.text_features("object" if method.options.noun == "object" else "steel bracket")
    inverse = 1 / image[:, None]
    for side in (2, 4):
        probability = (seen[f"window_{side}"] @ text.T * 100).softmax(-1)[..., 1]
        inverse = inverse + 1 / spread(probability, method.places[f"window_{side}"], 64)
    assert torch.allclose(grid, 3 / inverse, rtol=1e-4, atol=1e-7)
    assert torch.allclose(image, (inputs.cls @ text.T * 100).softmax(-1)[:, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("option", "same"),
    [({"noun": "object"}, True), ({"noun": "category"}, False), ({"noun": "folder"}, False)],
)
def test_the_name_of_the_category_counts_where_asked(
    tiny: Backbone, batch: Batch, option: dict[str, str], same: bool
) -> None:
    """The first two images are one picture under two names."""
    one = _from_pixels(tiny, batch).rows(torch.tensor([0, 0]))
    scores, _ = _method(tiny, **option).score(
        replace(one, nouns=["gear", "woven cloth"], categories=["gear", "woven_cloth"]), 64
    )
    assert (float(scores[0]) == float(scores[1])) is same


def test_folder_names_are_read_as_they_stand(tiny: Backbone, batch: Batch) -> None:
    inputs = replace(_from_pixels(tiny, batch), nouns=["metal nut"] * 8, categories=["metal_nut"] * 8)
    folder, _ = _method(tiny, noun="folder").score(inputs, 64)
    named, _ = _method(tiny).score(replace(inputs, nouns=["metal_nut"] * 8), 64)
    words, _ = _method(tiny).score(inputs, 64)
    assert torch.allclose(folder, named, atol=1e-6) and not torch.allclose(folder, words, atol=1e-4)


def test_the_released_templates_lack_one_and_repeat_one(tiny: Backbone) -> None:
    paper, released = _method(tiny).photos(), _method(tiny, templates="released").photos()
    assert len(paper) == len(set(paper)) == 22
    assert len(released) == 21 and len(set(released)) == 20
    assert set(paper) - set(released) == {"a cropped photo of a {}.", "a jpeg corrupted photo of a {}."}


def test_windows_must_fit_the_grid(tiny: Backbone) -> None:
    with pytest.raises(FlawlineError, match="window of 9x9"):
        _method(tiny, windows=[2, 9])


@pytest.mark.parametrize("wrong", [{"shots": -1}, {"windows": []}, {"templates": "mine"}, {"windows": [0]}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WinClipOptions(image_path="plain", **wrong)  # type: ignore[arg-type]
