"""DAPO: what it learns, tells apart and refuses. Its numbers are in test_dapo_parity.py."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from flawline.clip.backbone import Backbone, load_backbone
from flawline.errors import FlawlineError
from flawline.prompts.dapo import Dapo, DapoOptions
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.prompts.shared.prompt_set import load_prompt_set, save_prompt_set
from flawline.settings import BackboneSettings
from flawline.tune.loop import TuningData, tune
from flawline.tune.losses import total
from golden.prompt_case import GOLDEN, released_backbone

FEW = {"stain": "stain", "line": "scratch", "scratch": "scratch", "dropout": "missing part"}
SMALL = {"defects": FEW, "variants": 2, "text_mode": "clean"}


def method_of(backbone: Backbone, seed: int = 0, **options: Any) -> Dapo:
    return Dapo(backbone, DapoOptions(image_path="plain", **(SMALL | options)), seed)


@pytest.fixture
def data(tiny: Backbone) -> TuningData:
    """Twelve noisy images; two kinds of defect, bright and dark squares, in half of them."""
    generator = torch.Generator().manual_seed(2)
    pixels = 0.3 * torch.randn(12, 3, 64, 64, generator=generator)
    masks = torch.zeros(12, 64, 64, dtype=torch.bool)
    defects = ["good"] * 6 + ["stain", "line"] * 3
    for row in range(6, 12):
        masks[row, 16:40, 8:32] = True
        pixels[row, :, 16:40, 8:32] += 3.0 if defects[row] == "stain" else -3.0
    none = torch.zeros(12, 1)
    labels = torch.tensor([0] * 6 + [1] * 6)
    return TuningData(Inputs(none, none[..., None, None], pixels=pixels), masks, labels, defects)


def test_the_prompt_set_is_what_the_paper_learns(tiny: Backbone) -> None:
    shapes = {key: tuple(value.shape) for key, value in method_of(tiny, variants=10).state_dict().items()}
    w, v, d = tiny.text_width, tiny.vision_width, tiny.dim
    want: dict[str, tuple[int, ...]] = {
        "context_good": (10, 5, w),
        "context_defect": (10, 5, w),  # one for all three words
        "deep_text": (tiny.text_layers, 4, w),
        "deep_visual": (tiny.vision_layers, 4, v),
        "trained": (3,),
        "centre": (d,),
    }
    want |= {f"adapters.{k}.weight": (d, v) for k in range(4)} | {
        f"adapters.{k}.bias": (d,) for k in range(4)
    }
    assert shapes == want
    bare = method_of(tiny, text_depth=0, visual_depth=0)
    assert (
        bare.deep_text is None and bare.deep_visual is None and bare.text_features("object").shape == (4, d)
    )


def test_the_defects_context_is_shared_and_good_has_its_own(tiny: Backbone) -> None:
    method = method_of(tiny)
    before = method.text_features("object").detach()
    with torch.no_grad():
        method.context_defect += torch.randn(5, tiny.text_width, generator=torch.Generator().manual_seed(1))
    moved = (method.text_features("object").detach() - before).abs().amax(-1)
    assert float(moved[0]) == 0 and float(moved[1:].min()) > 1e-4


def test_another_word_is_another_prompt_another_map_and_another_score(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    one, other = (method.encode_words([word], "object") for word in ("scratch", "bubble"))
    assert torch.equal(one[0], other[0]) and (one[1] - other[1]).abs().max() > 1e-4
    found = [
        method_of(tiny, test_words=words).score(batch.inputs, 64)
        for words in (["scratch"], ["bubble"], ["scratch", "bubble"])
    ]
    for (scores, maps), (others, other_maps) in pairwise(found):
        assert (scores - others).abs().max() > 1e-6 and (maps - other_maps).abs().max() > 1e-6


def test_new_words_at_test_time_need_no_training(tiny: Backbone, data: TuningData) -> None:
    method = method_of(tiny, epochs=1, learning_rate=0.01)
    tune(method, data, 0)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    images, maps = method.type_scores(data.inputs, ["bubble", "wrinkled surface", "scratch"], 32)
    assert images.shape == (12, 4) and maps.shape == (12, 4, 32, 32)
    assert torch.allclose(images.sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(maps.sum(1), torch.ones(12, 32, 32), atol=1e-5)
    assert (maps[:, 1] - maps[:, 2]).abs().max() > 1e-4
    turned, turned_maps = method.type_scores(data.inputs, ["scratch", "bubble", "wrinkled surface"], 32)
    assert torch.allclose(turned[:, [0, 2, 3, 1]], images, atol=1e-5)
    assert torch.allclose(turned_maps[:, [0, 2, 3, 1]], maps, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    with pytest.raises(FlawlineError, match="no defect types"):
        method.type_scores(data.inputs, [], 32)


def test_tuning_finds_defects_and_tells_them_apart(tiny: Backbone, data: TuningData) -> None:
    method = method_of(tiny, epochs=30, learning_rate=0.01, batch=12, variants=1)
    curve = tune(method, data, 0)
    totals = [value for _, _, quantity, value in curve if quantity == "total"]
    assert totals[-1] < 0.6 * totals[0]
    assert method.train_words == ["stain", "scratch"]  # no training image has a missing part
    scores, maps = method.score(data.inputs, 64)
    assert float(maps[data.masks].mean()) > float(maps[~data.masks].mean()) + 0.2
    assert float(scores[data.labels == 1].min()) > float(scores[data.labels == 0].max())
    _, types = method.type_scores(data.inputs, method.train_words, 64)
    inside = [types[row, 1:, 20:36, 12:28].mean((1, 2)) for row in range(6, 12)]
    assert [int(both.argmax()) for both in inside] == [0, 1] * 3


def test_relative_types_take_out_what_all_good_images_share(tiny: Backbone, data: TuningData) -> None:
    """By hand: the image's probability of any defect, shared out by the cosines of what is left of both."""
    method = method_of(tiny, epochs=1, types="relative")
    tune(method, data, 0)
    words = ["bubble", "stain", "scratch"]
    found, maps = method.type_scores(data.inputs, words, 32)
    with torch.no_grad():
        cls, _ = method.see(data.inputs.pixels)
        text = method.encode_words(words, "object")
    assert torch.allclose(method.centre, cls[:6].mean(0), atol=1e-5)
    merged = torch.nn.functional.normalize(text[1:].mean(0), dim=-1)
    bad = ((cls @ torch.stack([text[0], merged]).T) / 0.07).softmax(-1)[:, 1]
    less_good = torch.nn.functional.normalize(text[1:] - text[0], dim=-1)
    shares = ((cls - cls[:6].mean(0)) @ less_good.T / 0.07).softmax(-1)
    assert torch.allclose(found, torch.cat([1 - bad[:, None], bad[:, None] * shares], 1), atol=1e-5)
    method.options = method.options.model_copy(update={"types": "image"})
    plain, same = method.type_scores(data.inputs, words, 32)
    assert torch.allclose(plain, (cls @ text.T / 0.07).softmax(-1), atol=1e-5) and torch.equal(maps, same)


def test_scores_and_types_together_run_the_tower_once_and_say_the_same(
    tiny: Backbone, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, words = method_of(tiny), ["bubble", "stain"]
    apart = (*method.score(batch.inputs, 48), *method.type_scores(batch.inputs, words, 48))
    seen: list[int] = []
    see = Dapo.see
    monkeypatch.setattr(Dapo, "see", lambda self, pixels: seen.append(len(pixels)) or see(self, pixels))
    together = method.score_and_types(batch.inputs, words, 48)
    assert all(torch.equal(one, other) for one, other in zip(apart, together, strict=True))
    assert sum(seen) == len(batch.inputs.pixels)


def test_tuning_repeats_to_the_bit(tiny: Backbone, data: TuningData) -> None:
    states = []
    for seed in (0, 0, 1):
        method = method_of(tiny, seed, epochs=1)
        tune(method, data, seed)
        states.append(torch.cat([value.flatten().float() for value in method.state_dict().values()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_which_words_train_comes_from_the_training_images(tiny: Backbone, data: TuningData) -> None:
    method, every = method_of(tiny), method_of(tiny, train_words="all")
    for one, words in ((method, ["stain", "scratch"]), (every, ["stain", "scratch", "missing part"])):
        one.before_stage(one.stages()[0], data)
        assert one.train_words == words == one.words()["scored"]
    with pytest.raises(FlawlineError, match=r"methods\.dapo\.defects: no word for 'dent'"):
        method.before_stage(method.stages()[0], replace(data, defects=["dent"] * 12))
    with pytest.raises(FlawlineError, match="training images name no defects"):
        method.before_stage(method.stages()[0], replace(data, defects=[]))


def test_one_word_for_all_takes_the_defect_words_away(tiny: Backbone, data: TuningData) -> None:
    method = method_of(tiny, one_word="damaged", epochs=1)
    assert method.vocabulary == ["damaged"]
    tune(method, data, 0)
    assert method.score(data.inputs, 32)[1].shape == (12, 32, 32)


def test_mvtec_classes_are_the_released_twenty() -> None:
    options = DapoOptions(image_path="plain", defects="mvtec", variants=1)
    method = Dapo(released_backbone(), options, 0)
    card = json.loads((GOLDEN / "dapo_released.json").read_text(encoding="utf-8"))
    assert method.train_words == card["train_words"]
    assert method.word_of("manipulated_front") == "bent" and method.word_of("pill_type") == "wear"
    learned = sum(value.numel() for value in method.parameters())
    assert learned == 2 * 5 * 128 + 12 * 4 * 128 + 24 * 4 * 128 + 4 * (128 * 128 + 128)


def test_mixed_nouns_of_a_batch_equal_each_noun_alone(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny, noun="category")
    inputs = replace(batch.inputs, nouns=["gear", "leather"] * 4)
    together, maps = method.score(inputs, 64)
    predicted = method.predict(replace(batch, inputs=inputs))
    for k in range(8):
        alone = torch.tensor([k])
        score, one = method.score(inputs.rows(alone), 64)
        assert torch.allclose(score[0], together[k], atol=1e-5) and torch.allclose(one[0], maps[k], atol=1e-5)
        assert torch.allclose(predicted.image[k, 1], together[k], atol=1e-5)


def test_tapped_levels_differ_and_no_inserted_token_is_among_them(tiny: Backbone, batch: Batch) -> None:
    with torch.no_grad():
        _, patches = method_of(tiny).see(batch.inputs.pixels)
    assert patches.shape == (8, 4, tiny.grid**2, tiny.dim)
    for one, other in pairwise(patches.unbind(1)):
        assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("text_mode", ["official", "clean"])
def test_saved_and_loaded_scores_as_in_memory(
    tiny: Backbone, data: TuningData, tmp_path: Path, text_mode: str
) -> None:
    """Also which words were trained, and the types of new words."""
    method = method_of(tiny, epochs=1, text_mode=text_mode, levels=[2, 1.0], types="relative")
    tune(method, data, 0)
    card = {
        "method": "dapo", "backbone": tiny.card(), "options": method.options.model_dump(), "seed": 0,
        "image_paths": {"main": {"attention": "plain"}}, "threshold": {"value": 0.5},
    }  # fmt: skip
    save_prompt_set(tmp_path / "set", method, card)
    loaded, _ = load_prompt_set(tmp_path / "set", tmp_path)
    assert isinstance(loaded, Dapo) and loaded.train_words == method.train_words == ["stain", "scratch"]
    for mine, theirs in zip(method.score(data.inputs, 48), loaded.score(data.inputs, 48), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    pairs = (one.type_scores(data.inputs, ["bubble", "stain"], 48) for one in (method, loaded))
    for mine, theirs in zip(*pairs, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_scoring_changes_neither_parameters_nor_inputs_nor_the_tower(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    before = {key: value.clone() for key, value in [*method.state_dict().items(), *tiny.state_dict().items()]}
    pixels = batch.inputs.pixels.clone()
    first, again = (method.score(batch.inputs, 64) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    after = dict([*method.state_dict().items(), *tiny.state_dict().items()])
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert torch.equal(pixels, batch.inputs.pixels)
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_a_pass_of_many_images_equals_passes_of_few(
    tiny: Backbone, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = method_of(tiny)
    together = method.score(batch.inputs, 64)
    monkeypatch.setattr("flawline.prompts.dapo._CHUNK", 3)
    for one, other in zip(together, method.score(batch.inputs, 64), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_autocast_tunes_and_scores(tiny: Backbone, data: TuningData) -> None:
    method = method_of(tiny)
    batch = data.rows(torch.arange(12))
    exact, _ = method.score(data.inputs, 32)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = method.predict(batch)
        loss = total(method.stages()[0].losses, method.own_losses(batch, prediction))
        loss.backward()
        rough, maps = method.score(data.inputs, 32)
    assert rough.dtype == maps.dtype == torch.float32 and float((rough - exact).abs().max()) < 0.05
    assert all(bool(p.grad.isfinite().all()) and float(p.grad.abs().max()) > 0 for p in method.parameters())


def test_recomputing_gives_the_same_gradients(tiny: Backbone, data: TuningData) -> None:
    batch, found = data.rows(torch.arange(4, 8)), []
    for recompute in ("never", "always"):
        method = method_of(tiny, recompute=recompute)
        total(method.stages()[0].losses, method.own_losses(batch, method.predict(batch))).backward()
        found.append([p.grad for p in method.parameters()])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("layers", [6, 12, 24])
def test_towers_of_any_depth_are_tapped_at_the_same_shares(tiny: Backbone, layers: int) -> None:
    if layers == 6:
        assert method_of(tiny).levels == [2, 3, 4, 6]
    elif layers == 12:
        settings = BackboneSettings(name="ViT-S-32-alt", weights="none", image_size=64)
        assert method_of(load_backbone(settings, Path())).levels == [3, 6, 9, 12]
    else:
        assert method_of(released_backbone()).levels == [6, 12, 18, 24]


def test_smoothing_and_image_score_are_options(tiny: Backbone, batch: Batch) -> None:
    sharp, smooth = (method_of(tiny, smoothing=s).score(batch.inputs, 64) for s in (0.0, 4.0))
    assert torch.equal(sharp[0], smooth[0])
    assert float(smooth[1].std()) < float(sharp[1].std())
    scores, maps = method_of(tiny, image_score="mean").score(batch.inputs, 64)
    assert torch.allclose(scores, (sharp[0] + maps.flatten(1).amax(1)) / 2, atol=1e-6)


def test_cached_features_alone_are_refused(tiny: Backbone, batch: Batch) -> None:
    with pytest.raises(FlawlineError, match="this method reads images"):
        method_of(tiny).score(replace(batch.inputs, pixels=None), 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"defects": {}}, {"defects": "visa"}, {"defects": {"line": ""}}, {"text_mode": "both"},
        {"alpha": 1.5}, {"levels": []}, {"text_depth": -1}, {"test_words": "scratch"}, {"lr": 1.0},
    ],
)  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DapoOptions(image_path="plain", **wrong)


def test_blocks_that_are_not_there_are_named(tiny: Backbone) -> None:
    with pytest.raises(FlawlineError, match=r"methods\.dapo\.levels: \[9\]"):
        method_of(tiny, levels=[9])
    with pytest.raises(FlawlineError, match=r"methods\.dapo\.text_depth: 5, but the tower has 4"):
        method_of(tiny, text_depth=5)
