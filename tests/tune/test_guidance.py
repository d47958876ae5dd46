import pytest
import torch

from flawline.tune.guidance import project


def _pairs(count: int = 200) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)) for _ in range(count)
    ]


def test_never_steps_against_the_guide() -> None:
    for task, guide in _pairs():
        guided = project(task, guide, 1.0)
        assert float((guided * guide).sum()) >= -1e-5 * float(guided.norm() * guide.norm())


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-6, 0.0])
def test_what_is_left_of_opposite_gradients_is_not_against_the_guide_either(apart: float) -> None:
    """Little is left of a task that is nearly the guide's opposite; its rounding must not turn against the guide."""
    for sideways, guide in _pairs(50):
        task = apart * sideways - 30 * guide
        guided = project(task, guide, 1.0)
        limit = 1e-6 * guided.double().norm() * guide.double().norm()
        assert float((guided.double() * guide.double()).sum()) >= -float(limit) - 1e-300
        assert guided.dtype == task.dtype


def test_a_guide_counts_however_faint_unless_it_is_silent() -> None:
    task, guide = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(project(task, guide * 1e-7, 1.0), torch.tensor([1.0, 0.0]))
    assert project(task, guide * 1e-9, 1.0) is task


def test_agreeing_gradients_are_left_alone_to_the_bit() -> None:
    agreed = [(task, guide) for task, guide in _pairs() if float((task * guide).sum()) >= 0]
    assert agreed
    assert all(project(task, guide, 1.0) is task for task, guide in agreed)


def test_weight_zero_and_a_silent_guide_are_plain_training() -> None:
    for task, guide in _pairs(20):
        assert project(task, guide, 0.0) is task
        assert project(task, torch.zeros_like(guide), 1.0) is task


def test_half_weight_takes_out_half_of_the_conflict() -> None:
    task, guide = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(project(task, guide, 0.5), torch.tensor([1.0, -1.0]))
