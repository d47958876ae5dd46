"""AnomalyCLIP against its released code (golden numbers), and its properties."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from flawline.clip.backbone import Backbone
from flawline.prompts.anomalyclip import AnomalyCLIP, AnomalyCLIPOptions
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.tune.loop import TuningData, tune
from golden.prompt_case import Case, relative, released_backbone

NAMES = {"contexts.good": "context_normal", "contexts.defective": "context_abnormal"}
CASES = {"anomalyclip_fp32": False, "anomalyclip_released": True}  # deep_half of each


def method_of(backbone: Backbone, seed: int = 0, **options: object) -> AnomalyCLIP:
    return AnomalyCLIP(backbone, AnomalyCLIPOptions(image_path="vv", **options), seed)  # type: ignore[arg-type]


def at_start(name: str, **options: object) -> tuple[Case, AnomalyCLIP]:
    case = Case.open(name, NAMES)
    method = method_of(released_backbone(), deep_half=CASES[name], **options)
    case.start(method)
    return case, method


def learnable(tiny: Backbone) -> TuningData:
    """Good and defective images that differ in their patches and in the image feature."""
    generator = torch.Generator().manual_seed(1)
    n, side = 16, tiny.grid
    labels = torch.tensor([0, 1] * (n // 2))
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[1::2, 2:5, 2:5] = True
    defect = torch.randn(tiny.dim, generator=generator)
    base = torch.randn(n, side * side, tiny.dim, generator=generator) * 0.5
    patches = base + masks.flatten(1)[..., None] * defect * 2
    cls = torch.nn.functional.normalize(patches.mean(1) + labels[:, None] * defect, dim=-1)
    patches = torch.nn.functional.normalize(patches, dim=-1)
    return TuningData(Inputs(cls, patches[:, None], ["gear"] * n), masks, labels)


# --- parity with the released code ----------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_features_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    gold, inputs = case.gold, case.batch.inputs
    assert relative(inputs.cls, gold["out.image_features"]) < 1e-4
    assert relative(inputs.patches[:, 0], gold["out.patch_features"][:, 1:]) < 1e-4
    with torch.no_grad():
        assert relative(method.raw_text("object"), gold["out.text_raw"]) < 1e-4
        assert relative(method.text_features("object"), gold["out.text"]) < 1e-4
        prediction = method.predict(case.batch)
    assert relative(prediction.patches[:, 0], gold["out.patch_prob"]) < 1e-4
    assert relative(prediction.image, gold["out.image_logits"].softmax(-1)) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_losses_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    _, terms, loss = case.losses(method)
    gold = case.gold
    assert relative(terms["focal"], gold["loss.focal"]) < 1e-4
    assert relative(terms["dice"], gold["loss.dice_abnormal"] + gold["loss.dice_normal"]) < 1e-4
    assert relative(terms["focal"] + terms["dice"], gold["loss.local"]) < 1e-4
    assert relative(terms["global_ce"], gold["loss.global_ce"]) < 1e-4
    assert relative(loss, gold["loss.total"]) < 1e-4


@pytest.mark.parametrize(("name", "most"), [("anomalyclip_fp32", 1e-4), ("anomalyclip_released", 1e-3)])
def test_gradients_are_the_released_ones(name: str, most: float) -> None:
    case, method = at_start(name)
    errors = case.gradient_errors(method)
    assert len(errors) == 2 + 8
    assert max(errors.values()) < most, errors


@pytest.mark.parametrize("name", CASES)
def test_parameters_after_one_step_of_the_loop_are_the_released_ones(name: str) -> None:
    case, method = at_start(name, epochs=1)
    errors = case.step_errors(method)
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("name", CASES)
def test_maps_and_scores_are_the_released_ones(name: str) -> None:
    case, method = at_start(name)
    scores, maps = method.score(case.batch.inputs, 70)
    assert relative(scores, case.gold["test.score"]) < 1e-4
    assert relative(maps, case.gold["test.map"]) < 1e-4
    sharp = method_of(released_backbone(), deep_half=CASES[name], smoothing=0.0)
    case.start(sharp)
    if "out.map" in case.gold:
        assert relative(sharp.score(case.batch.inputs, 70)[1], case.gold["out.map"]) < 1e-4


def test_prompts_are_the_released_sentences() -> None:
    case, method = at_start("anomalyclip_fp32")
    backbone = released_backbone()
    for state, golden in (("good", "in.tokens_normal"), ("defective", "in.tokens_abnormal")):
        (sentence,) = method.words()[state]
        spoken = sentence.replace("[V]×12", " ".join("X" * 12)).format(noun="object")
        assert torch.equal(backbone.tokenize([spoken]), case.gold[golden])


# --- properties -----------------------------------------------------------------------------------------
def test_prompt_set_is_contexts_and_deep_tokens(tiny: Backbone) -> None:
    shapes = {name: tuple(value.shape) for name, value in method_of(tiny).state_dict().items()}
    width = tiny.text_width
    assert shapes == {
        "contexts.good": (12, width), "contexts.defective": (12, width),
        "deep.0": (4, width), "deep.1": (4, width), "deep.2": (4, width),  # the tower has four text layers
    }  # fmt: skip
    assert not any(name.startswith("deep") for name in method_of(tiny, deep_depth=1).state_dict())


def test_gradients_reach_all_of_the_prompt_set_and_nothing_else(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    method.predict(batch).patches[..., 1].sum().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in method.parameters())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_another_word_or_noun_gives_another_score(tiny: Backbone, batch: Batch) -> None:
    scores, _ = method_of(tiny).score(batch.inputs, 32)
    scratched, _ = method_of(tiny, defect_word="scratched").score(batch.inputs, 32)
    named, _ = method_of(tiny, noun="category").score(batch.inputs, 32)
    assert (scores - scratched).abs().max() > 1e-5
    assert (scores - named).abs().max() > 1e-5


def test_deep_tokens_change_the_score(tiny: Backbone, batch: Batch) -> None:
    with_deep, _ = method_of(tiny).score(batch.inputs, 32)
    without, _ = method_of(tiny, deep_depth=1).score(batch.inputs, 32)
    assert (with_deep - without).abs().max() > 1e-5


def test_seeds_differ_and_repeat(tiny: Backbone) -> None:
    first, again, other = (method_of(tiny, seed).text_features("object") for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-5)


def test_tuning_lowers_every_loss(tiny: Backbone) -> None:
    curve = tune(method_of(tiny, epochs=15, learning_rate=1e-2), learnable(tiny), 0)
    for quantity in ("total", "global_ce", "focal", "dice"):
        values = [value for _, _, name, value in curve if name == quantity]
        assert len(values) == 30
        assert max(values[-4:]) < 0.9 * values[0], quantity


def test_image_loss_stays_exact_where_the_probability_is_rounded_away(tiny: Backbone, batch: Batch) -> None:
    """At a sharp temperature a wrong image's probability is 0 in float32; its loss and gradient are not."""
    method = method_of(tiny, temperature=0.001)
    text = method.text_features("object").detach()
    facing = torch.nn.functional.normalize(text[1] - text[0], dim=-1)
    wrong = replace(
        batch, inputs=replace(batch.inputs, cls=facing.expand(8, -1)), labels=torch.zeros(8).long()
    )
    prediction = method.predict(wrong)
    expected = float((facing @ text[1] - facing @ text[0]) / 0.001)
    assert expected > 20
    assert float(method.own_losses(wrong, prediction)["global_ce"].detach()) == pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.parametrize(
    "wrong",
    [{"deep_depth": 0}, {"defect_word": ""}, {"defect_word": "{}"}, {"lr": 1.0}, {"temperature": 0.0}],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AnomalyCLIPOptions(image_path="vv", **wrong)  # type: ignore[arg-type]
