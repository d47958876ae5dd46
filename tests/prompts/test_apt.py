"""APT: compound prompts, rounds with the noises they say, and a meta-prompt that moves only when it is accepted."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.prompts.apt import Apt, AptOptions
from flawline.prompts.human_free import HumanFree, HumanFreeOptions
from flawline.prompts.shared.base import TuningStage
from flawline.prompts.shared.batches import Batch, Inputs, Prediction
from flawline.prompts.shared.meta import semantic_distance
from flawline.tune import loop
from flawline.tune.loop import Curve, TuningData, tune
from flawline.tune.rounds import EMBEDDING

NOISES = ["blur", "gaussian", "line", "stain"]
SMALL: dict[str, Any] = {
    "normal_tokens": 3, "abnormal_tokens": 2, "abnormal_prompts": 2, "rounds": 3, "steps": 3, "batch": 8,
    "learning_rate": 0.05, "temperature": 0.1, "judged": 8,
}  # fmt: skip


def _method(tiny: Backbone, seed: int = 0, **options: Any) -> Apt:
    return Apt(tiny, AptOptions(image_path="laa", **(SMALL | options)), seed)


def _set(tiny: Backbone, noises: list[str]) -> TuningData:
    """Eight good rows and sixteen anomalous ones whose defective patches point another way."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0] * 8 + [1] * 16)
    masks = torch.zeros(24, 64, 64, dtype=torch.bool)
    masks[8:, 16:40, 8:32] = True
    small = F.interpolate(masks[:, None].float(), size=(tiny.grid, tiny.grid), mode="area")[:, 0].flatten(1)
    defect = F.normalize(torch.randn(tiny.dim, generator=generator), dim=0)
    patches = torch.randn(24, tiny.grid**2, tiny.dim, generator=generator) * 0.3 / tiny.dim**0.5
    patches = F.normalize(patches + 0.2 + small[..., None] * defect * 3, dim=-1)
    inputs = Inputs(F.normalize(patches.mean(1), dim=-1), patches[:, None], ["gear"] * 24)
    return TuningData(inputs, masks, labels, ["good"] * 8 + [noises[k % len(noises)] for k in range(16)])


@pytest.fixture
def noisy(tiny: Backbone) -> TuningData:
    return _set(tiny, NOISES)


def _state(method: Apt) -> torch.Tensor:
    return torch.cat([value.flatten() for value in method.state_dict().values()])


def _directions(data: TuningData) -> tuple[torch.Tensor, torch.Tensor]:
    """Where good and defective patches of `_set` point."""
    inside = data.masks[8, ::8, ::8].flatten()
    good, bad = data.inputs.patches[:8].mean((0, 1, 2)), data.inputs.patches[8:, 0, inside].mean((0, 1))
    return F.normalize(good, dim=-1), F.normalize(bad, dim=-1)


def _rows(tiny: Backbone, method: Apt, tokens: torch.Tensor, noun: str) -> torch.Tensor:
    template = PromptTemplate.context(len(tokens), f"{noun}.").tokenize(tiny)
    filled = fill(embed(tiny, template.ids), template.slots, tokens)
    return F.normalize(encode_prompts(tiny, filled[None], torch.tensor([template.eot]))[0], dim=-1)


@pytest.mark.parametrize("form", ["compound", "independent"])
def test_prompts_against_one_at_a_time(tiny: Backbone, form: str) -> None:
    method = _method(tiny, form=form, abnormal_prompts=3)
    normal, abnormal = method.contexts["normal"], method.contexts["abnormal"]
    assert abnormal.shape == (3, 2 if form == "compound" else 3, tiny.text_width)
    text = method.text_features("gear")
    assert torch.allclose(text[0], _rows(tiny, method, normal, "gear"), atol=1e-5)
    own = [torch.cat([normal, one]) if form == "compound" else one for one in abnormal]
    features = torch.stack([_rows(tiny, method, tokens, "gear") for tokens in own])
    assert torch.allclose(text[1], F.normalize(features.mean(0), dim=-1), atol=1e-5)


def test_the_normal_context_is_shared_in_the_compound_form_only(tiny: Backbone) -> None:
    for form, shared in (("compound", True), ("independent", False)):
        method = _method(tiny, form=form)
        method.text_features("object")[1].sum().backward()
        assert bool(method.contexts["normal"].grad.abs().sum() > 0) is shared
        assert float(method.contexts["abnormal"].grad.abs().sum()) > 0
    assert set(method.state_dict()) == {"contexts.normal", "contexts.abnormal"}
    assert sorted(method.learned_tokens()) == ["abnormal 1", "abnormal 2", "normal"]


def test_starts_at_words_or_at_random_and_by_seed(tiny: Backbone) -> None:
    assert not torch.allclose(_state(_method(tiny)), _state(_method(tiny, start="random")), atol=1e-3)
    assert torch.equal(_state(_method(tiny)), _state(_method(tiny)))
    assert not torch.equal(_state(_method(tiny)), _state(_method(tiny, seed=1)))


def test_guide_is_the_kl_and_the_distance_of_the_text_features(tiny: Backbone, batch: Batch) -> None:
    parts = [_method(tiny, kl_weight=a, semantic_weight=b) for a, b in ((1.0, 0.0), (0.0, 1.0), (2.0, 0.5))]
    prediction = parts[0].predict(batch)
    kl, apart, both = (method.guide_loss(batch, prediction) for method in parts)
    assert torch.allclose(apart, semantic_distance(prediction.text, parts[0].meta))
    assert torch.allclose(both, 2 * kl + 0.5 * apart) and float(kl) > 0 and float(apart) > 0
    at_meta = parts[0].compare(batch.cls, batch.patches, parts[0].meta)
    assert float(parts[2].guide_loss(batch, at_meta)) == pytest.approx(0.0, abs=1e-5)


def test_a_round_is_a_stage_of_so_many_steps(tiny: Backbone, noisy: TuningData) -> None:
    method = _method(tiny)
    curve = tune(method, noisy, 0)
    steps = [(stage, step) for stage, step, quantity, _ in curve if quantity == "total"]
    assert steps == [(f"round-{number}", step) for number in (1, 2, 3) for step in range(3)]
    assert [record["round"] for record in method.words()["rounds"]] == [1, 2, 3]


def test_rounds_use_the_noises_they_say_and_no_other(tiny: Backbone, noisy: TuningData) -> None:
    method = _method(tiny, steps=40, rounds=4)
    seen: list[set[str]] = []
    for stage in method.stages():
        picked = method.before_stage(stage, noisy)
        assert int((picked.labels == 1).sum()) == 40 * 4
        shown = picked.rows(torch.arange(len(picked.labels)))
        seen.append(set(shown.defects) - {"good"})
        method.after_stage(stage, noisy)
    assert seen[0] == {"gaussian"} and method.records[0]["held_out"] == ["blur", "line", "stain"]
    for record, used in zip(method.records, seen, strict=True):
        assert used <= set(record["noises"]) and not used & set(record["held_out"])
        assert sorted([*record["noises"], *record["held_out"]]) == NOISES
        assert sum(record["noises"].values()) == pytest.approx(1.0, abs=1e-4)
    assert len({tuple(record["noises"]) for record in method.records}) > 1  # rounds differ


@pytest.mark.parametrize("first", ["stain", None])
def test_the_first_round_is_another_noise_or_as_every_round(
    tiny: Backbone, noisy: TuningData, first: str | None
) -> None:
    method = _method(tiny, first_noise=first, rounds=1)
    tune(method, noisy, 0)
    assert list(method.records[0]["noises"]) == (["stain"] if first else sorted(method.records[0]["noises"]))
    assert len(method.records[0]["noises"]) == (1 if first else 3)


@pytest.mark.parametrize("lower", [True, False])
def test_the_meta_prompt_moves_only_when_it_is_accepted(
    tiny: Backbone, noisy: TuningData, lower: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[set[str], int, int]] = []
    values = iter([1.0, 0.5] if lower else [1.0, 1.0])

    def loss(self: Apt, data: TuningData, teachers: dict[str, torch.Tensor], stage: TuningStage) -> float:
        judged.append((set(data.defects) - {"good"}, int((data.labels == 0).sum()), int(data.labels.sum())))
        return next(values)

    monkeypatch.setattr(Apt, "synthetic_loss", loss)
    method = _method(tiny, rounds=1)
    start = method.meta.clone()
    tune(method, noisy, 0)
    assert method.records[0]["moved"] is lower is not torch.equal(method.meta, start)
    if lower:
        expected = F.normalize(0.8 * start + 0.2 * method.text_features("object"), dim=-1)
        assert torch.allclose(method.meta, expected, atol=1e-6)
    for noises, good, bad in judged:
        assert noises <= {"blur", "line", "stain"} and good == bad == 8
    assert len(judged) == 2


def test_judging_is_the_task_loss_of_the_teacher_itself(tiny: Backbone, noisy: TuningData) -> None:
    """A teacher that knows the defect has the lower loss; and the loss is the stage's, row by row."""
    method = _method(tiny)
    stage = method.stages()[0]
    good, bad = _directions(noisy)
    knowing, wrong = {"object": torch.stack([good, bad])}, {"object": torch.stack([bad, good])}
    losses = [method.synthetic_loss(noisy, teachers, stage) for teachers in (knowing, wrong)]
    assert losses[0] < losses[1]
    batch = noisy.rows(torch.arange(24))
    prediction = method.compare(batch.cls, batch.patches, knowing["object"])
    terms = loop.shared_losses(set(stage.losses), batch, prediction)
    assert losses[0] == pytest.approx(float(loop.total(stage.losses, terms)), rel=1e-4)


def test_nothing_judges_where_no_noise_is_left_over(tiny: Backbone) -> None:
    alone = _set(tiny, ["gaussian"])
    for options in ({}, {"first_noise": None}, {"held_out": 0.0}):
        method = _method(tiny, **options)
        start = method.meta.clone()
        tune(method, alone, 0)
        assert torch.equal(method.meta, start)
        assert all(not record["moved"] and record["held_out"] == [] for record in method.records)


@pytest.mark.parametrize("guidance", ["projection", "loss"])
def test_one_static_round_of_gaussian_noise_is_human_frees_mpts(tiny: Backbone, guidance: str) -> None:
    """R = 1, mu = 1, Gaussian only: the same prompts as Human-Free with a static meta-prompt, step by step."""
    data = _set(tiny, ["gaussian"])
    shared: dict[str, Any] = {"batch": 8, "learning_rate": 0.05, "temperature": 0.1, "guidance": guidance}
    one_static = {"rounds": 1, "meta_momentum": 1.0, "steps": 6, "semantic_weight": 0.0}
    apt = _method(tiny, form="independent", abnormal_prompts=1, guidance=guidance, **one_static)
    options = HumanFreeOptions(image_path="laa", context_tokens=3, meta="static", epochs=1, **shared)
    human_free = HumanFree(tiny, options, 0)
    with torch.no_grad():
        human_free.contexts["good"].copy_(apt.contexts["normal"])
        human_free.contexts["defective"].copy_(apt.contexts["abnormal"][0])
    picked = apt.before_stage(apt.stages()[0], data)
    assert set(picked.defects) == {"good", "gaussian"}

    def values(curve: Curve, quantity: str) -> list[float]:
        return [value for _, _, name, value in curve if name == quantity]

    good, bad = _directions(data)
    teacher = torch.stack([bad, good])
    apt.teachers, human_free.teachers = {"object": teacher}, {"object": teacher}  # it teaches the opposite
    mine, theirs = tune(apt, data, 0), tune(human_free, picked, 0)
    for quantity in {name for _, _, name, _ in mine}:
        assert values(mine, quantity) == pytest.approx(values(theirs, quantity), rel=1e-3, abs=1e-5)
    if guidance == "projection":
        assert sum(values(mine, "guided")) > 0, "the guide never disagreed: nothing was compared"
    assert torch.allclose(apt.contexts["normal"], human_free.contexts["good"], atol=1e-4)
    assert torch.allclose(apt.contexts["abnormal"][0], human_free.contexts["defective"], atol=1e-4)
    assert apt.meta is teacher and human_free.meta is teacher


@pytest.mark.parametrize("form", ["compound", "independent"])
def test_lambda_0_is_plain_training_to_the_bit(
    tiny: Backbone, noisy: TuningData, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def far(self: Apt, batch: Batch, prediction: Prediction) -> torch.Tensor:
        other = torch.randn(prediction.text.shape, generator=torch.Generator().manual_seed(4))
        return (prediction.text * other).sum() * 5

    monkeypatch.setattr(Apt, "guide_loss", far)
    states = []
    for options in ({"guidance": "none"}, {"guidance_weight": 0.0}, {}):
        method = _method(tiny, form=form, **options)
        tune(method, noisy, 0)
        states.append(_state(method))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_embedding_noise_joins_the_noises_where_asked(tiny: Backbone, noisy: TuningData) -> None:
    without, with_it = _method(tiny), _method(tiny, embedding_noise=True, first_noise=EMBEDDING)
    tune(without, noisy, 0)
    tune(with_it, noisy, 0)
    assert all(EMBEDDING not in {*r["noises"], *r["held_out"]} for r in without.records)
    assert with_it.records[0]["noises"] == {EMBEDDING: 1.0}
    assert all(EMBEDDING in {*r["noises"], *r["held_out"]} for r in with_it.records)


def test_same_seed_same_prompts_to_the_bit(tiny: Backbone, noisy: TuningData) -> None:
    methods = [_method(tiny, seed, embedding_noise=True) for seed in (0, 0, 1)]
    for method in methods:
        tune(method, noisy, method.seed)
    assert torch.equal(_state(methods[0]), _state(methods[1])) and methods[0].records == methods[1].records
    assert not torch.equal(_state(methods[0]), _state(methods[2]))


def test_tuning_separates_what_it_learned(tiny: Backbone, noisy: TuningData) -> None:
    method = _method(tiny, guidance="none", steps=12)
    tune(method, noisy, 0)
    scores, maps = method.score(noisy.rows(torch.arange(24)).inputs, 64)
    assert float(scores[8:].mean()) > float(scores[:8].mean())
    assert float(maps[noisy.masks].mean()) > float(maps[~noisy.masks].mean())


def test_nouns_of_the_set_have_teachers_that_move_together(tiny: Backbone, noisy: TuningData) -> None:
    mixed = replace(noisy, inputs=replace(noisy.inputs, nouns=["gear", "leather"] * 12))
    method = _method(tiny, noun="category", rounds=2)
    tune(method, mixed, 0)
    assert set(method.teachers) == {"gear", "leather"}


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"held_out": 1.0}, {"form": "mixed"}, {"embedding_strengths": []}, {"epochs": 3}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AptOptions(image_path="laa", **wrong)  # type: ignore[arg-type]
