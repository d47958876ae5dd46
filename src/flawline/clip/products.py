"""Products with the weights of a frozen CLIP, by the faster of the two libraries inside torch.

torch's float32 products on the CPU are MKL's, which leaves AVX-512 unused on processors that are not Intel's; oneDNN
does not. Measured on an AMD EPYC with widths of 640: 8 to 10 % faster for 480 rows, a fifth for 69. torch has no public
door to it for ordinary float32 tensors (MKLDNN tensors have to be converted, which costs the gain), so this is the
operator that torch.compile uses, given the gradient it lacks. Where it is missing, torch's usual product is taken.

It rounds otherwise, so it is used in two places alone: while prompts are tuned, and by a plan of `--fast` scoring.
Features, which users keep, and evaluation stay torch's own products.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.registry import open_clip

PlainBlock = open_clip.transformer.ResidualAttentionBlock  # the block that is known from the inside here

_WORTH_IT = 256  # inputs and outputs of a row; below, calling costs more than it saves
_asked_for: ContextVar[bool] = ContextVar("onednn", default=False)


@contextmanager
def onednn(asked: bool = True) -> Iterator[None]:
    """oneDNN for products without gradients too, as far as it suits them."""
    token = _asked_for.set(asked)
    try:
        yield
    finally:
        _asked_for.reset(token)


def has_onednn() -> bool:
    """Whether this torch has oneDNN's product."""
    return _product() is not None


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., i] times weight [o, i] plus bias [o]: [..., o].

    By oneDNN where x has a gradient or `onednn` was asked for, on the CPU, in float32, for a weight that does not train
    and is not small; by torch otherwise.
    """
    with_gradient = torch.is_grad_enabled() and x.requires_grad
    suits = (
        (with_gradient or _asked_for.get())
        and not (
            torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad))
        )
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and min(weight.shape) >= _WORTH_IT
        and has_onednn()
    )
    if not suits:
        return F.linear(x, weight, bias)
    product: Tensor = _Frozen.apply(x, weight, bias) if with_gradient else _multiply(x, weight, bias)
    return product


def mlp(block: Any, x: Tensor) -> Tensor:
    """What a block's MLP makes of tokens [..., W]: [..., W]."""
    layers = block.mlp
    if not isinstance(block, PlainBlock):
        whole: Tensor = layers(x)
        return whole
    inner = layers.gelu(frozen_linear(x, layers.c_fc.weight, layers.c_fc.bias))
    return frozen_linear(inner, layers.c_proj.weight, layers.c_proj.bias)


def _product() -> Any:
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _product()(x, weight, bias, "none", [], "")
    return product


class _Frozen(torch.autograd.Function):
    """The product, and its gradient for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _multiply(gradients[0], weight.t(), None), None, None
