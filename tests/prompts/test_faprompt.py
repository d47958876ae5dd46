"""FAPrompt: what must hold for any configuration."""

from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.prompt_tree import PromptTree
from flawline.errors import FlawlineError
from flawline.prompts.faprompt import FAPrompt, FAPromptOptions
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.tune.loop import TuningData, tune
from flawline.tune.losses import orthogonality


def method_of(backbone: Backbone, seed: int = 0, **options: object) -> FAPrompt:
    return FAPrompt(backbone, FAPromptOptions(image_path="vv", **options), seed)  # type: ignore[arg-type]


def learnable(tiny: Backbone) -> TuningData:
    """Good and defective images that differ in their patches and in the image feature."""
    generator = torch.Generator().manual_seed(1)
    n, side = 16, tiny.grid
    labels = torch.tensor([0, 1] * (n // 2))
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[1::2, 2:5, 2:5] = True
    defect = torch.randn(tiny.dim, generator=generator)
    base = torch.randn(n, side * side, tiny.dim, generator=generator) * 0.5
    patches = F.normalize(base + masks.flatten(1)[..., None] * defect * 2, dim=-1)
    cls = F.normalize(base.mean(1) + labels[:, None] * defect, dim=-1)
    return TuningData(Inputs(cls, patches[:, None], ["gear"] * n), masks, labels)


def without_prior(method: FAPrompt) -> FAPrompt:
    """The same prompts with the prior's output forced to zero."""
    with torch.no_grad():
        for parameter in method.prior.linear2.parameters():
            parameter.zero_()
    return method


# --- the prior ------------------------------------------------------------------------------------------
def test_the_prior_reads_the_highest_patches_in_decreasing_order(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    text = method.text_features("object").detach()
    chosen = method.chosen(batch.patches, text)
    scores = method.compare(batch.cls, batch.patches, text).patches[:, 0, :, 1]
    assert chosen.shape == (8, 10)
    for row, picked in zip(scores, chosen, strict=True):
        assert sorted(row.tolist(), reverse=True)[:10] == pytest.approx(row[picked].tolist(), abs=1e-6)
        assert picked.tolist() != list(range(10))
    first = method_of(tiny, select="first10", prior_patches=6)
    assert first.chosen(batch.patches, text).tolist() == [list(range(6))] * 8


def test_equal_patches_are_taken_in_raster_order(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    text = method.text_features("object").detach()
    flat = batch.patches[:, :, :1].expand(-1, -1, tiny.grid**2, -1).clone()
    assert method.chosen(flat, text).tolist() == [list(range(10))] * 8


def test_what_the_prior_reads_does_not_depend_on_the_batch(tiny: Backbone, batch: Batch) -> None:
    """Nearly equal scores must not change places with the shape of a matrix product."""
    method = method_of(tiny)
    text = method.text_features("object").detach()
    generator = torch.Generator().manual_seed(3)
    noise = 1e-7 * torch.randn(batch.patches.shape, generator=generator)
    near = F.normalize(batch.patches[:, :, :1] + noise, dim=-1)
    together = method.chosen(near, text)
    for k in range(8):
        assert torch.equal(method.chosen(near[k : k + 1], text)[0], together[k])


def test_prior_forced_to_zero_gives_equal_maps(tiny: Backbone, batch: Batch) -> None:
    free = method_of(tiny).predict(batch)
    assert (free.patches - free.specific).abs().max() > 1e-5
    zero = without_prior(method_of(tiny)).predict(batch)
    assert torch.allclose(zero.patches, zero.specific, atol=1e-6)
    assert torch.allclose(zero.text, zero.specific_text, atol=1e-6)
    assert float(zero.prior.detach().abs().max()) == 0


def test_leaving_the_prior_out_equals_a_prior_of_zero(tiny: Backbone, batch: Batch) -> None:
    """The ablation: one pass, nothing of the prior in the prompt set or in the losses."""
    zero, out = without_prior(method_of(tiny)), method_of(tiny, prior=False)
    for mine, theirs in zip(out.score(batch.inputs, 32), zero.score(batch.inputs, 32), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert not any(name.startswith("prior") for name in out.state_dict())
    assert {"prior", "focal_specific", "dice_specific"} & set(out.stages()[0].losses) == set()
    assert set(out.stages()[0].losses) <= {"focal", "dice", *out.own_losses(batch, out.predict(batch))}


def test_prior_is_each_images_own_and_moves_abnormal_prompts_only(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    prediction = method.predict(batch)
    assert torch.equal(prediction.text[:, 0], prediction.specific_text[:, 0])
    assert (prediction.specific_text[0, 1] - prediction.specific_text[1, 1]).abs().max() > 1e-6
    for k in range(8):
        alone = method.two_passes(batch.inputs.rows(torch.tensor([k])), method.prompts("object"))
        assert torch.allclose(alone[1].text[0], prediction.specific_text[k], atol=1e-5)


def test_prior_loss_counts_good_images_only(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    prediction = method.predict(batch)
    want = sum(prediction.prior[k].square().mean() for k in range(8) if batch.labels[k] == 0)
    assert torch.allclose(method.own_losses(batch, prediction)["prior"], want)
    all_bad = replace(batch, labels=torch.ones(8).long())
    assert float(method.own_losses(all_bad, prediction)["prior"].detach()) == 0


def test_several_levels_choose_by_their_mean_and_read_the_last(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    other = batch.patches.flip(2)
    two = replace(batch, inputs=replace(batch.inputs, patches=torch.cat([other, batch.patches], 1)))
    text = method.text_features("object").detach()
    scores = method.compare(two.cls, two.patches, text).patches[..., 1].mean(1)
    assert torch.allclose(
        scores.gather(1, method.chosen(two.patches, text)), scores.topk(10).values, atol=1e-6
    )
    rows = torch.arange(8)[:, None]
    read = batch.patches[:, 0][rows, method.chosen(two.patches, text)].flatten(1)
    assert torch.allclose(method.prior_of(two.patches, text), method.prior(read))
    assert method.predict(two).specific.shape == (8, 2, tiny.grid**2, 2)


def test_a_grid_with_fewer_patches_than_the_prior_reads_is_refused(tiny: Backbone) -> None:
    with pytest.raises(
        FlawlineError, match=r"methods\.faprompt\.prior_patches: 65, but .* sees 64 patches"
    ) as told:
        method_of(tiny, prior_patches=65)
    assert "give 1 to 64" in str(told.value)
    assert method_of(tiny, prior_patches=64).prior is not None
    method_of(tiny, prior_patches=65, prior=False)


# --- prompts --------------------------------------------------------------------------------------------
def test_prompt_set_has_the_backbones_sizes(tiny: Backbone) -> None:
    shapes = {name: tuple(value.shape) for name, value in method_of(tiny).state_dict().items()}
    width, seen = tiny.text_width, 10 * tiny.dim
    assert shapes == {
        "contexts.good": (5, width), "contexts.defective": (10, 2, width),
        "deep.0": (4, width), "deep.1": (4, width), "deep.2": (4, width),
        "prior.linear1.weight": (seen // 16, seen), "prior.linear1.bias": (seen // 16,),
        "prior.linear2.weight": (width, seen // 16), "prior.linear2.bias": (width,),
    }  # fmt: skip
    narrow = method_of(tiny, prior_hidden=7, prior_patches=3).prior
    assert narrow.linear1.weight.shape == (7, 3 * tiny.dim)


def test_gradients_reach_the_normal_tokens_through_the_abnormal_prompts(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    method.prompts("object").abnormal.square().sum().backward()
    assert float(method.contexts["good"].grad.abs().sum()) > 0
    method.zero_grad()
    method.prompts("object").normal.square().sum().backward()
    assert (
        method.contexts["defective"].grad is None or float(method.contexts["defective"].grad.abs().sum()) == 0
    )
    method.zero_grad()
    method.predict(batch).specific[..., 1].sum().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in method.parameters())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_one_trunk_for_all_prompts_equals_all_prompts_encoded_whole(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    results = []
    for whole in (False, True):
        with patch.object(PromptTree, "encode", encoded_whole) if whole else nullcontext():
            method.zero_grad()
            loss = method.predict(batch).specific[..., 1].square().sum()
            loss.backward()
        results.append([loss.detach(), *(parameter.grad.clone() for parameter in method.parameters())])
    for once, each in zip(*results, strict=True):
        assert torch.allclose(once, each, rtol=1e-4, atol=1e-5 * float(each.abs().max()))


def encoded_whole(tree: PromptTree, *groups: Tensor) -> list[Tensor]:
    return [tree._encode_whole(branches) for branches in groups]


def test_orthogonality_starts_near_its_maximum(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny)
    value = float(method.own_losses(batch, method.predict(batch))["orthogonality"].detach())
    assert 0.75 * 45 < value <= 45
    assert float(orthogonality(torch.ones(10, 4))) == pytest.approx(45)
    assert float(orthogonality(torch.eye(10))) == 0
    signs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    assert float(orthogonality(signs)) == pytest.approx(1 + 0.6 + 0.6)


def test_another_word_or_noun_gives_another_score(tiny: Backbone, batch: Batch) -> None:
    scores, _ = method_of(tiny).score(batch.inputs, 32)
    scratched, _ = method_of(tiny, defect_word="scratched").score(batch.inputs, 32)
    named, _ = method_of(tiny, noun="category").score(batch.inputs, 32)
    assert (scores - scratched).abs().max() > 1e-5
    assert (scores - named).abs().max() > 1e-5


def test_mixed_nouns_of_a_batch_equal_each_noun_alone(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny, noun="category")
    nouns = ["gear", "leather", "leather", "mesh"] * 2
    mixed = replace(batch, inputs=replace(batch.inputs, nouns=nouns))
    together = method.predict(mixed)
    assert together.abnormal.shape[:2] == (3, 10)
    for k, noun in enumerate(nouns):
        one = mixed.inputs.rows(torch.tensor([k]))
        first, second, _ = method.two_passes(one, method.prompts(noun))
        assert torch.allclose(together.patches[k], first.patches[0], atol=1e-5)
        assert torch.allclose(together.specific[k], second.patches[0], atol=1e-5)
        assert torch.allclose(together.image[k], second.image[0], atol=1e-5)


def test_seeds_differ_and_repeat_whatever_the_global_generator(tiny: Backbone) -> None:
    first = method_of(tiny).state_dict()
    torch.rand(3)
    again, other = method_of(tiny).state_dict(), method_of(tiny, seed=1).state_dict()
    for name, value in first.items():
        assert torch.equal(value, again[name]) and not torch.equal(value, other[name])
        if name.startswith("prior.linear1"):
            bound = (10 * tiny.dim) ** -0.5
            assert 0.9 * bound < float(value.abs().max()) <= bound


# --- scores and tuning ----------------------------------------------------------------------------------
def test_score_is_half_text_half_highest_patches(tiny: Backbone, batch: Batch) -> None:
    method = method_of(tiny, smoothing=0.0)
    with torch.no_grad():
        prediction = method.predict(batch)
    scores, maps = method.score(batch.inputs, tiny.grid)
    first, second = prediction.patches[:, 0, :, 1], prediction.specific[:, 0, :, 1]
    want = (prediction.image[:, 1] + (2 * first.amax(1) + second.amax(1)) / 3) / 2
    assert torch.allclose(scores, want, atol=1e-6)
    assert torch.allclose(maps.flatten(1), (first + second) / 2, atol=1e-6)


def test_score_loss_takes_the_score_for_a_logit_or_for_what_it_is(tiny: Backbone) -> None:
    scores, labels = torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
    for kind, chance in (("logit", torch.sigmoid(scores)), ("probability", scores)):
        right = torch.where(labels == 1, chance, 1 - chance)
        want = ((1 - right) ** 2 * -right.log()).mean()
        assert torch.allclose(method_of(tiny, score_loss=kind).score_focal(scores, labels), want)


def test_tuning_lowers_every_loss(tiny: Backbone) -> None:
    curve = tune(method_of(tiny, epochs=10, learning_rate=1e-2), learnable(tiny), 0)
    for quantity in ("total", "global_ce", "focal", "dice", "score_focal", "orthogonality"):
        values = [value for _, _, name, value in curve if name == quantity]
        assert len(values) == 20
        assert max(values[-3:]) < values[0], quantity


@pytest.mark.parametrize(
    "wrong",
    [{"select": "best"}, {"prior_patches": 0}, {"defect_word": "{}"}, {"lr": 1.0}, {"score_loss": "mse"}],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FAPromptOptions(image_path="vv", **wrong)  # type: ignore[arg-type]
