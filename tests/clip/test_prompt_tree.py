"""Prompts as a trunk with branches against the same prompts encoded whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flawline.clip import prompt_tree
from flawline.clip.backbone import Backbone
from flawline.clip.deep_text import deep_tokens, encode_deep
from flawline.clip.prompt_tree import PromptTree
from flawline.errors import FlawlineError

SHAPES = ["tok", "layerscale", "quickgelu", "own-text"]
TRUNK = 6


def tokens(backbone: Backbone, length: int = 2, depth: int = 9) -> list[Tensor]:
    drawn = deep_tokens(backbone, depth, length, torch.Generator().manual_seed(4))
    return [(50 * value.detach()).requires_grad_() for value in drawn]


def drawn(backbone: Backbone, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, backbone.text_width, generator=generator).requires_grad_()


def groups_of(backbone: Backbone) -> list[Tensor]:
    """Branches of three lengths; seven of six tokens make no even bunches, twelve do."""
    return [drawn(backbone, *shape, seed=k) for k, shape in enumerate(((1, 3), (7, 6), (12, 5)), 1)]


def whole(
    backbone: Backbone, trunk: Tensor, branches: Tensor, deep: list[Tensor], half: bool = False
) -> Tensor:
    prompts = torch.cat([trunk.expand(len(branches), -1, -1), branches], dim=1)
    ends = torch.full((len(branches),), prompts.shape[1] - 1)
    return encode_deep(backbone, prompts, ends, deep, half)


def gradients(features: list[Tensor], of: list[Tensor]) -> list[Tensor]:
    waved = [(one * torch.linspace(-1, 1, one.numel()).sin().reshape(one.shape)).sum() for one in features]
    return list(torch.autograd.grad(torch.stack(waved).sum(), of))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("calls", [1, 3])
def test_equals_whole_prompts_and_their_gradients(
    backbone_of: Callable[..., Backbone], shape: str, calls: int
) -> None:
    """Groups of branches in one call, or one after the other against the trunk of the first."""
    backbone = backbone_of(shape)
    trunk, groups, deep = drawn(backbone, TRUNK), groups_of(backbone), tokens(backbone)
    assert len(deep) == backbone.text_layers - 1  # the last layer's too
    want = [whole(backbone, trunk, branches, deep) for branches in groups]
    tree = PromptTree(backbone, trunk, deep)
    got = (
        tree.encode(*groups)
        if calls == 1
        else [features for branches in groups for features in tree.encode(branches)]
    )
    for one, other in zip(got, want, strict=True):
        assert float((one - other).detach().abs().max() / other.detach().abs().max()) < 1e-6
    leaves = [trunk, *groups, *deep]
    for one, other in zip(gradients(got, leaves), gradients(want, leaves), strict=True):
        assert float(other.abs().max()) > 0
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_branches_do_not_see_each_other(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    trunk, branches = drawn(backbone, TRUNK), drawn(backbone, 10, 4, seed=1)
    with torch.no_grad():
        (before,) = PromptTree(backbone, trunk).encode(branches)
        branches[3] = branches[3].flip(-1)
        (after,) = PromptTree(backbone, trunk).encode(branches)
    others = torch.arange(10) != 3
    assert (before[3] - after[3]).abs().max() > 1e-3
    assert torch.equal(before[others], after[others])


@pytest.mark.parametrize(
    ("count", "own", "bunch"), [(80, 6, 5), (10, 6, 5), (7, 6, 1), (1, 3, 1), (4, 40, 1)]
)
def test_a_bunch_is_a_divisor_of_few_tokens(count: int, own: int, bunch: int) -> None:
    assert prompt_tree._bunch(count, own) == bunch


def test_the_trunk_is_encoded_once(backbone_of: Callable[..., Backbone]) -> None:
    """Rows that pass the first block's MLP: trunk and branches, then branches alone."""
    backbone = backbone_of("tok")
    seen: list[int] = []
    block = backbone.text.transformer.resblocks[0]
    hook = block.ln_2.register_forward_pre_hook(lambda _, given: seen.append(given[0].numel()))
    tree = PromptTree(backbone, drawn(backbone, TRUNK), tokens(backbone))
    tree.encode(drawn(backbone, 2, 3), drawn(backbone, 4, 5))
    tree.encode(drawn(backbone, 3, 5))
    hook.remove()
    assert seen == [backbone.text_width * rows for rows in (TRUNK + 6 + 20, 15)]


def test_half_encodes_prompts_whole(backbone_of: Callable[..., Backbone]) -> None:
    """Released code rounds the deep tokens and their gradients in every prompt on its own."""
    backbone = backbone_of("tok")
    trunk, branches, deep = drawn(backbone, TRUNK), drawn(backbone, 4, 6, seed=1), tokens(backbone)
    want = whole(backbone, trunk, branches, deep, half=True)
    (got,) = PromptTree(backbone, trunk, deep, half=True).encode(branches)
    assert torch.equal(got, want)
    assert all(
        torch.equal(a, b)
        for a, b in zip(gradients([got], [trunk, *deep]), gradients([want], [trunk, *deep]), strict=True)
    )


def test_deep_tokens_beyond_the_trunk_are_still_exact(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    trunk, branches, deep = drawn(backbone, TRUNK), drawn(backbone, 4, 6, seed=1), tokens(backbone, TRUNK)
    (got,) = PromptTree(backbone, trunk, deep).encode(branches)
    assert torch.equal(got, whole(backbone, trunk, branches, deep))
    with pytest.raises(FlawlineError, match="11 deep tokens overwrite the end of a prompt of 12 tokens"):
        PromptTree(backbone, trunk, tokens(backbone, 11)).encode(branches)


def test_encoding_changes_no_weight(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    tree = PromptTree(backbone, drawn(backbone, TRUNK), tokens(backbone))
    (features,) = tree.encode(drawn(backbone, 4, 6, seed=1))
    features.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
