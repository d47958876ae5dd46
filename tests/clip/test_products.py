"""oneDNN's products: the same values, asked for where they may be."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip import products
from flawline.clip.products import frozen_linear, onednn

WIDE = products._WORTH_IT
needs_onednn = pytest.mark.skipif(not products.has_onednn(), reason="a torch without oneDNN")


def given(inputs: int = WIDE, outputs: int = WIDE, gradient: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, inputs, generator=generator, requires_grad=gradient)
    return x, torch.randn(outputs, inputs, generator=generator), torch.randn(outputs, generator=generator)


class Calls:
    """How often oneDNN was called."""

    def __init__(self) -> None:
        self.count = 0
        self.product = products._product()

    def __call__(self, *told: object) -> Tensor:
        self.count += 1
        result: Tensor = self.product(*told)
        return result


@needs_onednn
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_torchs(with_bias: bool) -> None:
    x, weight, bias = given()
    calls = Calls()
    with patch.object(products, "_product", lambda: calls):
        got = frozen_linear(x, weight, bias if with_bias else None)
        (slope,) = torch.autograd.grad(got.sin().sum(), x)
    want = F.linear(x, weight, bias if with_bias else None)
    assert calls.count == 2
    assert torch.allclose(got, want, atol=1e-4)
    assert torch.allclose(slope, torch.autograd.grad(want.sin().sum(), x)[0], atol=1e-3)


@needs_onednn
def test_rows_do_not_depend_on_the_other_rows() -> None:
    x, weight, bias = given(gradient=False)
    with onednn():
        together = frozen_linear(x, weight, bias)
        assert all(torch.equal(frozen_linear(x[k], weight, bias), together[k]) for k in range(3))


def count_calls(x: Tensor, weight: Tensor, bias: Tensor) -> int:
    calls = Calls()
    with patch.object(products, "_product", lambda: calls):
        frozen_linear(x, weight, bias)
    return calls.count


@needs_onednn
def test_it_is_used_while_tuning_and_where_it_is_asked_for() -> None:
    x, weight, bias = given()
    assert count_calls(x, weight, bias) == 1
    assert count_calls(x.detach(), weight, bias) == 0
    with torch.no_grad():
        assert count_calls(x, weight, bias) == 0
        with onednn():
            assert count_calls(x, weight, bias) == 1
            with onednn(False):
                assert count_calls(x, weight, bias) == 0
        assert count_calls(x, weight, bias) == 0


@needs_onednn
def test_it_is_left_where_it_does_not_suit() -> None:
    x, weight, bias = given()
    assert count_calls(x, weight.requires_grad_(), bias) == 0  # a weight that trains
    assert count_calls(*given(inputs=WIDE - 1)) == 0
    assert count_calls(*given(outputs=WIDE - 1)) == 0
    assert count_calls(x.double(), weight.detach().double(), bias.double()) == 0


def test_a_torch_without_it_multiplies_as_ever() -> None:
    x, weight, bias = given()
    with patch.object(torch.backends.mkldnn, "is_available", lambda: False), onednn():
        assert not products.has_onednn()
        assert torch.equal(frozen_linear(x, weight, bias), F.linear(x, weight, bias))
