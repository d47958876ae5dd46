"""MPTS in training: what the guidance of Human-Free may and may not change."""

import pytest
import torch

from flawline.clip.backbone import Backbone
from flawline.prompts.human_free import HumanFree, HumanFreeOptions
from flawline.prompts.shared.batches import Batch, Prediction
from flawline.tune import loop
from flawline.tune.guidance import project
from flawline.tune.loop import TuningData, tune
from flawline.tune.losses import shared_losses, total

SCOPES = ("state", "global")


def _tuned(tiny: Backbone, data: TuningData, **options: object) -> torch.Tensor:
    """All contexts after training, good first: one vector."""
    defaults = {"context_tokens": 4, "epochs": 4, "batch": 16, "learning_rate": 0.05, "temperature": 0.1}
    method = HumanFree(tiny, HumanFreeOptions(image_path="laa", **(defaults | options)), 0)  # type: ignore[arg-type]
    tune(method, data, seed=0)
    return torch.cat([method.context(state).flatten() for state in ("good", "defective")])


def _task(method: HumanFree, batch: Batch, prediction: Prediction) -> torch.Tensor:
    (stage,) = method.stages()
    return total(stage.losses, shared_losses(set(stage.losses), batch, prediction))


def _far(method: HumanFree, batch: Batch, prediction: Prediction) -> torch.Tensor:
    """A guide that is in conflict in many steps: a teacher of another kind."""
    other = torch.randn(prediction.text.shape, generator=torch.Generator().manual_seed(4))
    return (prediction.text * other).sum() * 5


@pytest.mark.parametrize("scope", SCOPES)
def test_lambda_0_is_plain_training_to_the_bit(
    tiny: Backbone, data: TuningData, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HumanFree, "guide_loss", _far)
    plain = _tuned(tiny, data, guidance="none", inner_product=scope)
    assert torch.equal(plain, _tuned(tiny, data, guidance_weight=0.0, inner_product=scope))
    assert not torch.equal(plain, _tuned(tiny, data, inner_product=scope))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_guide_that_always_agrees_changes_nothing_to_the_bit(
    tiny: Backbone, data: TuningData, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HumanFree, "guide_loss", lambda *given: 3 * _task(*given))
    guided = _tuned(tiny, data, inner_product=scope)
    assert torch.equal(guided, _tuned(tiny, data, guidance="none", inner_product=scope))


@pytest.mark.parametrize(("scope", "tensors"), [("state", 2), ("global", 1)])
def test_no_step_goes_against_the_guide(
    tiny: Backbone, data: TuningData, scope: str, tensors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []

    def spy(task: torch.Tensor, guide: torch.Tensor, weight: float) -> torch.Tensor:
        step = project(task, guide, weight)
        left, right = step.double(), guide.double()
        before, lengths = float((task.double() * right).sum()), float(left.norm() * right.norm())
        seen.append((before, float((left * right).sum()) / lengths))
        return step

    monkeypatch.setattr(loop, "project", spy)
    monkeypatch.setattr(HumanFree, "guide_loss", _far)
    _tuned(tiny, data, inner_product=scope)
    assert len(seen) == 4 * 2 * tensors
    assert any(before < 0 for before, _ in seen), "the guide never disagreed: nothing was tested"
    assert min(after for _, after in seen) >= -1e-6


def test_scopes_differ_where_states_disagree(
    tiny: Backbone, data: TuningData, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [_tuned(tiny, data, guidance="none", inner_product=scope) for scope in SCOPES]
    assert torch.equal(*plain)  # without a guide the scope says nothing
    monkeypatch.setattr(HumanFree, "guide_loss", _far)
    assert not torch.allclose(*[_tuned(tiny, data, inner_product=scope) for scope in SCOPES], atol=1e-6)


def test_static_dynamic_and_hard_meta_prompts_guide_differently(tiny: Backbone, data: TuningData) -> None:
    options = {"guidance": "loss", "guidance_weight": 5.0, "epochs": 6, "meta_warmup": 0.0}
    kinds = [
        _tuned(tiny, data, meta=meta, meta_momentum=0.5, **options) for meta in ("static", "dynamic", "hard")
    ]
    assert not torch.allclose(kinds[0], kinds[1], atol=1e-6)
    assert not torch.allclose(kinds[1], kinds[2], atol=1e-6)
    still = _tuned(tiny, data, meta="dynamic", meta_momentum=1.0, **options)
    assert torch.allclose(kinds[0], still, atol=1e-5)
