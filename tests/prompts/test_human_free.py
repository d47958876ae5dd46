from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.prompts.human_free import HumanFree, HumanFreeOptions
from flawline.prompts.shared.batches import Batch, Prediction
from flawline.prompts.shared.fusion import FORMULAS, fuse
from flawline.tune.losses import shared_losses, total


def _method(tiny: Backbone, seed: int = 0, **options: object) -> HumanFree:
    return HumanFree(tiny, HumanFreeOptions(image_path="laa", **options), seed)  # type: ignore[arg-type]


def test_only_the_contexts_are_the_prompt_set(tiny: Backbone) -> None:
    method = _method(tiny, context_tokens=6)
    shapes = {name: tuple(value.shape) for name, value in method.state_dict().items()}
    assert shapes == {"contexts.good": (6, tiny.text_width), "contexts.defective": (6, tiny.text_width)}


def test_gradients_reach_both_contexts_and_nothing_else(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    method.predict(batch).patches[..., 1].sum().backward()
    for state in ("good", "defective"):
        assert float(method.contexts[state].grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_seeds_differ_and_repeat(tiny: Backbone) -> None:
    first, again, other = (_method(tiny, seed).text_features("object") for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-5)


def test_guide_is_zero_where_the_prompts_equal_the_meta_prompt(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    at_meta = method.compare(batch.cls, batch.patches, method.meta)
    assert float(method.guide_loss(batch, at_meta)) == pytest.approx(0.0, abs=1e-6)
    assert float(method.guide_loss(batch, method.predict(batch))) > 0


def test_meta_prompt_is_dynamic_after_the_warm_up_and_static_with_momentum_one(tiny: Backbone) -> None:
    moving, still = _method(tiny, meta_momentum=0.5, meta_warmup=0.2), _method(tiny, meta_momentum=1.0)
    start = moving.meta.clone()
    moving.after_epoch(0.1)
    assert torch.equal(moving.meta, start)
    moving.after_epoch(0.5)
    still.after_epoch(0.5)
    learned = moving.text_features("object")
    assert ((moving.meta * learned).sum(-1) > (start * learned).sum(-1)).all()
    assert torch.allclose(still.meta, start, atol=1e-6)


def test_image_score_is_the_mean_of_image_and_highest_pixel(tiny: Backbone) -> None:
    maps = torch.zeros(2, 8, 8)
    maps[1, 3, 3] = 0.8
    score = _method(tiny).image_score(torch.tensor([0.5, 0.5]), maps)
    assert torch.allclose(score, torch.tensor([0.25, 0.65]))


def test_mixed_nouns_of_a_batch_equal_each_noun_alone(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny, noun="category", context_tokens=4)
    nouns = ["gear", "leather"] * 4
    together = method.predict(replace(batch, inputs=replace(batch.inputs, nouns=nouns)))
    for k, noun in enumerate(nouns):
        alone: Prediction = method.compare(
            batch.cls[k : k + 1], batch.patches[k : k + 1], method.text_features(noun)
        )
        assert torch.allclose(together.image[k], alone.image[0], atol=1e-5)
        assert torch.allclose(together.patches[k], alone.patches[0], atol=1e-5)


def test_variants_are_prompts_of_their_own_whose_features_are_averaged(tiny: Backbone) -> None:
    method = _method(tiny, context_tokens=4, variants=3)
    assert {tuple(value.shape) for value in method.state_dict().values()} == {(3, 4, tiny.text_width)}
    assert sorted(method.learned_tokens()) == [f"{s} {k}" for s in ("defective", "good") for k in (1, 2, 3)]
    raw = []
    for k in range(3):
        alone = _method(tiny, context_tokens=4)
        alone.load_state_dict({name: value[k] for name, value in method.state_dict().items()})
        template = PromptTemplate.context(4, "gear.").tokenize(tiny)
        filled = fill(embed(tiny, template.ids)[None], template.slots, alone.context("defective"))
        raw.append(encode_prompts(tiny, filled, torch.tensor([template.eot]))[0])
    assert torch.allclose(
        method.text_features("gear")[1], F.normalize(torch.stack(raw).mean(0), dim=-1), atol=1e-5
    )


def test_global_and_per_state_start_alike(tiny: Backbone) -> None:
    apart, together = _method(tiny, variants=2), _method(tiny, variants=2, inner_product="global")
    assert [tuple(value.shape)[:2] for value in together.state_dict().values()] == [(2, 2)]
    assert torch.equal(apart.text_features("object"), together.text_features("object"))


@pytest.mark.parametrize(
    ("meta", "stays", "becomes_prompts"),
    [("static", True, False), ("hard", False, True), ("dynamic", False, False)],
)
def test_meta_prompt_is_static_hard_or_dynamic(
    tiny: Backbone, meta: str, stays: bool, becomes_prompts: bool
) -> None:
    method = _method(tiny, meta=meta)
    start = method.meta.clone()
    method.after_epoch(0.9)
    assert torch.equal(method.meta, start) is stays
    assert torch.allclose(method.meta, method.text_features("object"), atol=1e-6) is becomes_prompts


def test_patch_losses_come_with_their_option(tiny: Backbone, batch: Batch) -> None:
    for local, names in (
        ("map", {"image_ce", "focal", "dice"}),
        ("patches", {"image_ce", "patch_ce"}),
        ("both", {"image_ce", "focal", "dice", "patch_ce"}),
    ):
        method = _method(tiny, local_loss=local)
        prediction = method.predict(batch)
        (stage,) = method.stages()
        terms = shared_losses(set(stage.losses), batch, prediction) | method.own_losses(batch, prediction)
        assert set(stage.losses) == set(terms) == names
        assert float(total(stage.losses, terms)) > 0
    many = _method(tiny, local_loss="patches", patch_positive=0.0).own_losses(batch, prediction)
    few = _method(tiny, local_loss="patches", patch_positive=0.5).own_losses(batch, prediction)
    assert not torch.equal(many["patch_ce"], few["patch_ce"])


@pytest.mark.parametrize("fusion", ["mean", "harmonic", "image", "map"])
def test_the_card_tells_how_the_image_score_is_made(tiny: Backbone, batch: Batch, fusion: str) -> None:
    method = _method(tiny, image_fusion=fusion, temperature=0.1)
    assert method.score_formula == FORMULAS[fusion]  # type: ignore[index]
    scores, maps = method.score(batch.inputs, 64)
    image, _ = method.anomaly(method.predict(batch))
    assert torch.allclose(scores, fuse(image, maps, fusion), atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"guidance": "sometimes"}, {"learning_rate": "fast"}, {"lr": 1.0}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HumanFreeOptions(image_path="laa", **wrong)  # type: ignore[arg-type]
