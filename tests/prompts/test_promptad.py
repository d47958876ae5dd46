"""PromptAD: what must hold for any configuration."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts.promptad import STATES, PromptAd, PromptAdOptions
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.prompts.shared.maps import upsample
from flawline.tune.loop import TuningData, tune

GOOD = torch.tensor([0, 2])


def _method(backbone: Backbone, seed: int = 0, **options: object) -> PromptAd:
    return PromptAd(backbone, PromptAdOptions(image_path="vv", **options), seed)  # type: ignore[arg-type]


# --- prompts ------------------------------------------------------------------------------------------------
def test_only_the_contexts_of_both_branches_are_learned(tiny: Backbone) -> None:
    method = _method(tiny, normal_contexts=2, context_tokens=5, abnormal_contexts=3, abnormal_tokens=2)
    width = tiny.text_width
    assert {name: tuple(value.shape) for name, value in method.state_dict().items()} == {
        "cls.normal": (2, 5, width),
        "cls.abnormal": (3, 2, width),
        "seg.normal": (1, 5, width),
        "seg.abnormal": (3, 2, width),
    }
    text = method.encode("cls", "gear")
    assert len(text.normal) == 2 and len(text.manual) == 2 * len(STATES) and len(text.learned) == 6


@pytest.mark.parametrize(("pairs", "distinct"), [("all", 4), ("modulo", 2)])
def test_pairs_that_share_a_divisor(tiny: Backbone, pairs: str, distinct: int) -> None:
    """The released rule repeats pairs where P and A share a divisor; both rules agree where they do not."""
    text = _method(tiny, normal_contexts=2, abnormal_contexts=2, pairs=pairs).encode("cls", "gear")
    assert len(text.learned) == 4
    assert len({tuple(row) for row in text.learned.detach().mul(1e4).round().tolist()}) == distinct
    every, modulo = (_method(tiny, pairs=one).encode("cls", "gear").pair for one in ("all", "modulo"))
    assert torch.allclose(every, modulo, atol=1e-5)


def test_states_of_a_product_count_for_that_product_only(tiny: Backbone) -> None:
    plain, told = _method(tiny), _method(tiny, states={"gear": ["{} with broken teeth"]})
    assert not torch.allclose(told.text_features("gear"), plain.text_features("gear"), atol=1e-5)
    assert torch.allclose(told.text_features("mesh"), plain.text_features("mesh"), atol=1e-6)
    assert told.words()["states of gear"] == ["{} with broken teeth"]


def test_scale_is_the_logarithm_or_the_temperature(tiny: Backbone) -> None:
    assert _method(tiny).scale == pytest.approx(float(tiny.model.logit_scale), rel=1e-5)
    assert _method(tiny, logit_scale="exp", temperature=0.05).scale == pytest.approx(20.0)


def test_paths_of_the_memory_have_roles(tiny: Backbone) -> None:
    assert _method(tiny).paths() == {"main": "vv"}
    assert _method(tiny, memory_path="taps").paths() == {"main": "vv", "memory": "taps"}
    assert _method(tiny, memory_path=["a", "b"]).more_paths() == {"memory": "a", "memory_2": "b"}


# --- losses -------------------------------------------------------------------------------------------------
def test_losses_read_good_images_only(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    want = method.own_losses(batch, method.predict(batch))
    bad = batch.labels == 1
    cls, patches = batch.cls.clone(), batch.patches.clone()
    cls[bad], patches[bad] = -cls[bad], -patches[bad]
    other = replace(batch, inputs=replace(batch.inputs, cls=cls, patches=patches))
    found = method.own_losses(other, method.predict(other))
    assert set(want) == {f"{b}_{t}" for b in ("cls", "seg") for t in ("contrastive", "margin", "match")}
    assert all(torch.allclose(found[name], want[name]) for name in want)


def test_losses_of_a_mixed_batch_are_the_mean_over_its_images(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    labels = torch.zeros(8, dtype=torch.long)
    nouns = ["gear"] * 6 + ["mesh"] * 2
    mixed = replace(batch, inputs=replace(batch.inputs, nouns=nouns), labels=labels)
    found = method.own_losses(mixed, method.predict(mixed))
    for name in found:
        parts = []
        for rows in (torch.arange(6), torch.arange(6, 8)):
            part = Batch(mixed.inputs.rows(rows), labels[rows], mixed.masks[rows])
            parts.append(method.own_losses(part, method.predict(part))[name])
        assert torch.allclose(found[name], (6 * parts[0] + 2 * parts[1]) / 8, atol=1e-6)


def test_prediction_of_a_mixed_batch_is_in_the_order_of_its_images(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    mixed = replace(batch, inputs=replace(batch.inputs, nouns=["mesh", "gear"] * 4))
    together = method.predict(mixed)
    for k in range(8):
        rows = torch.tensor([k])
        alone = method.predict(Batch(mixed.inputs.rows(rows), mixed.labels[rows], mixed.masks[rows]))
        assert torch.allclose(together.image[k], alone.image[0], atol=1e-5)
        assert torch.allclose(together.patches[k], alone.patches[0], atol=1e-5)
        assert torch.allclose(together.text[k], alone.text[0], atol=1e-5)


def test_branches_share_no_gradient(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    losses = method.own_losses(batch, method.predict(batch))
    losses["seg_contrastive"].backward()
    assert all(method.get_parameter(f"cls.{name}").grad is None for name in ("normal", "abnormal"))
    assert all(
        float(method.get_parameter(f"seg.{name}").grad.abs().sum()) > 0 for name in ("normal", "abnormal")
    )


def test_pixel_margin_over_features_is_a_hinge_a_token(tiny: Backbone, batch: Batch) -> None:
    method = _method(tiny)
    text = method.encode("seg", "steel bracket")
    normal, abnormal = text.pair
    tokens = batch.patches[batch.labels == 0].flatten(0, 2)
    want = F.relu((tokens - normal).pow(2).sum(-1) - (tokens - abnormal).pow(2).sum(-1)).mean()
    paper = method.own_losses(batch, method.predict(batch))["seg_margin"].detach()
    released = _method(tiny, seg_margin="tokens")
    assert float(paper) == pytest.approx(float(want.detach()), rel=1e-4)
    other = released.own_losses(batch, released.predict(batch))["seg_margin"].detach()
    assert float(other) != pytest.approx(float(want.detach()), rel=1e-2)


# --- few good images ------------------------------------------------------------------------------------------
def _tuned(tiny: Backbone, good: Inputs, **options: object) -> PromptAd:
    method = _method(tiny, **({"epochs": 5, "learning_rate": 0.02} | options))
    method.remember(good)
    return method


def _scores(method: PromptAd, inputs: Inputs) -> Tensor:
    scores, maps = method.score(inputs, 64)
    return torch.cat([scores, maps.flatten()])


def test_a_category_is_tuned_on_its_own_good_images_alone(tiny: Backbone, batch: Batch) -> None:
    inputs = replace(batch.inputs, nouns=["gear", "mesh"] * 4, categories=["gear", "mesh"] * 4)
    gears, meshes = torch.tensor([0, 2]), torch.tensor([1, 3])
    both = _tuned(tiny, inputs.rows(torch.cat([gears, meshes])))
    one = _tuned(tiny, inputs.rows(gears))
    other = _tuned(tiny, inputs.rows(meshes))
    assert torch.allclose(_scores(both, inputs.rows(gears)), _scores(one, inputs.rows(gears)), atol=1e-5)
    assert torch.allclose(_scores(both, inputs.rows(meshes)), _scores(other, inputs.rows(meshes)), atol=1e-5)
    with pytest.raises(FlawlineError, match="category 'mesh'"):
        one.score(inputs.rows(meshes), 64)
    other.remember(inputs.rows(gears))  # a second product later leaves the first one's alone
    assert torch.allclose(_scores(both, inputs), _scores(other, inputs), atol=1e-5)


def test_tuning_on_support_lowers_the_loss_and_leaves_the_prompt_set(tiny: Backbone, batch: Batch) -> None:
    good = batch.inputs.rows(GOOD)
    method = _method(tiny, epochs=10, learning_rate=0.05)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    support = Batch(good, torch.zeros(2, dtype=torch.long), torch.empty(0))

    def total() -> float:
        terms = method.own_losses(support, method.predict(support))
        return sum(weight * terms[name].item() for name, weight in method._stage().losses.items())

    start = total()
    method.remember(good)
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())
    for name, value in method.named_parameters():
        value.data.copy_(method.adapted.of[f"/{name}"])
    assert total() < start - 1e-3


def test_order_and_repetition_of_support_do_not_matter(tiny: Backbone, batch: Batch) -> None:
    want = _scores(_tuned(tiny, batch.inputs.rows(torch.tensor([0, 2, 4]))), batch.inputs)
    for rows in ([4, 0, 2], [0, 0, 2, 2, 4, 4]):
        found = _scores(_tuned(tiny, batch.inputs.rows(torch.tensor(rows))), batch.inputs)
        assert torch.allclose(found, want, atol=1e-5)


def test_a_good_image_scores_nothing_and_others_the_harmonic_fusion(tiny: Backbone, batch: Batch) -> None:
    method = _tuned(tiny, batch.inputs.rows(GOOD), smoothing=0.0)
    scores, maps = method.score(batch.inputs, 64)
    assert float(scores[GOOD].max()) < 1e-5 and float(maps[GOOD].max()) < 1e-5
    pairs = method.prototypes("", "steel bracket")
    text = (method.scale * batch.patches @ pairs["seg"].T).softmax(-1)[..., 1].mean(1)
    image = (method.scale * batch.cls @ pairs["cls"].T).softmax(-1)[:, 1]
    visual = method.memory.distance(batch.patches, []).mean(1)
    rest = torch.tensor([1, 3, 4, 5, 6, 7])
    want = upsample(1 / (1 / text + 1 / visual), 64)
    assert torch.allclose(maps[rest], want[rest], atol=1e-5)
    highest = upsample(visual, 64).flatten(1).amax(1)
    assert torch.allclose(scores[rest], (1 / (1 / image + 1 / highest))[rest], atol=1e-5)


def test_tuning_on_the_training_set_is_the_staged_loop(tiny: Backbone, batch: Batch) -> None:
    """With tune_on train the contexts move in the loop, and not when good images are remembered."""
    method = _method(tiny, tune_on="train", epochs=3, learning_rate=0.05)
    start = {name: value.detach().clone() for name, value in method.named_parameters()}
    curve = tune(method, TuningData(batch.inputs, batch.masks, batch.labels), 0)
    totals = [value for _, _, quantity, value in curve if quantity == "total"]
    assert len(totals) == 3 and totals[-1] < totals[0]
    moved = {name: value.detach().clone() for name, value in method.named_parameters()}
    assert all(not torch.equal(moved[name], start[name]) for name in start)
    method.remember(batch.inputs.rows(GOOD))
    assert method.adapted.of == {} and method.memory.of
    assert _method(tiny).stages() == [] and len(_method(tiny, tune_on="both").stages()) == 1


def test_scoring_without_good_images_is_refused(tiny: Backbone, batch: Batch) -> None:
    with pytest.raises(FlawlineError, match=r"no good images .*support"):
        _method(tiny).score(batch.inputs, 64)


def test_loading_brings_memory_and_tuned_contexts_of_every_category(tiny: Backbone, batch: Batch) -> None:
    inputs = replace(batch.inputs, categories=["gear v1.2", "mesh"] * 4)
    method, other = _tuned(tiny, inputs), _method(tiny, seed=1)
    other.load_state_dict(method.state_dict())
    assert torch.equal(_scores(other, inputs), _scores(method, inputs))


@pytest.mark.parametrize(
    "wrong", [{"shots": 0}, {"pairs": "some"}, {"states": {"gear": ["broken teeth"]}}, {"tune_on": "test"}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PromptAdOptions(image_path="vv", **wrong)  # type: ignore[arg-type]


def test_divergence_on_support_is_one_clear_error(tiny: Backbone, batch: Batch) -> None:
    good = batch.inputs.rows(GOOD)
    with pytest.raises(FlawlineError, match=r"diverged.*methods\.promptad\.learning_rate"):
        _tuned(tiny, replace(good, cls=good.cls * float("nan")))


def test_learned_tokens_are_those_that_were_trained(tiny: Backbone, batch: Batch) -> None:
    assert _method(tiny).learned_tokens() == {}  # nothing but the seed's noise yet
    assert sorted(_method(tiny, tune_on="train").learned_tokens())[0] == "cls.abnormal"
    named = replace(batch.inputs.rows(GOOD), categories=["gear", "gear"])
    tokens = _tuned(tiny, named).learned_tokens()
    assert tokens["gear/cls.normal"].shape == (12, tiny.text_width) and len(tokens) == 4
