import pytest
import torch
from pydantic import ValidationError

from flawline.clip.backbone import Backbone
from flawline.prompts.base import Batch, Prediction
from flawline.prompts.human_free import HumanFree, HumanFreeOptions


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
    together = method.predict(Batch(batch.cls, batch.patches, batch.labels, batch.masks, nouns))
    for k, noun in enumerate(nouns):
        alone: Prediction = method.compare(
            batch.cls[k : k + 1], batch.patches[k : k + 1], method.text_features(noun)
        )
        assert torch.allclose(together.image[k], alone.image[0], atol=1e-5)
        assert torch.allclose(together.patches[k], alone.patches[0], atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"guidance": "sometimes"}, {"learning_rate": "fast"}, {"lr": 1.0}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HumanFreeOptions(image_path="laa", **wrong)  # type: ignore[arg-type]
