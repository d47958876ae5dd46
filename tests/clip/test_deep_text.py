"""Deep text tokens against an obvious full-length reference; what they may and may not reach."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.deep_text import deep_tokens, encode_deep
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.errors import FlawlineError

SHAPES = ["tok", "layerscale", "quickgelu", "own-text"]


def tokens(backbone: Backbone, depth: int = 3, length: int = 2, spread: float = 1.0) -> list[Tensor]:
    drawn = deep_tokens(backbone, depth, length, torch.Generator().manual_seed(4))
    return [(value.detach() * spread / 0.02).requires_grad_() for value in drawn]


def prompts(backbone: Backbone, count: int = 4) -> tuple[Tensor, Tensor]:
    """Embeddings [count, T, W] over the whole context that begin alike and differ at two places; their ends."""
    template = PromptTemplate.context(7, "damaged object.").tokenize(backbone)
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(1, 5, backbone.text_width, generator=generator).expand(count, -1, -1)
    own = torch.randn(count, 2, backbone.text_width, generator=generator)
    base = embed(backbone, template.ids).expand(count, -1, -1)
    return fill(base, template.slots, torch.cat([common, own], 1)), torch.tensor([template.eot] * count)


def slow(backbone: Backbone, embeddings: Tensor, eot: Tensor, deep: list[Tensor]) -> Tensor:
    """Every place of the full context, one prompt after another, tokens put in place by place."""
    tower, features = backbone.text, []
    for one, end in zip(embeddings, eot.tolist(), strict=True):
        x = (one + tower.positional_embedding)[None]
        for number, block in enumerate(tower.transformer.resblocks, 1):
            if 2 <= number < 2 + len(deep):
                rows = list(x[0])
                for place, token in enumerate(deep[number - 2], 1):
                    rows[place] = token
                x = torch.stack(rows)[None]
            x = block(x, attn_mask=tower.attn_mask)
        features.append(tower.ln_final(x)[0, end])
    projection = tower.text_projection
    stacked = torch.stack(features)
    return projection(stacked) if isinstance(projection, torch.nn.Linear) else stacked @ projection


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_slow_reference_and_its_gradients(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    backbone = backbone_of(shape)
    results = []
    for encode in (slow, encode_deep):
        deep = tokens(backbone)
        embeddings, eot = prompts(backbone)
        learned = embeddings[:, 6:8].clone().requires_grad_()
        common = embeddings[0, 1:6].clone().requires_grad_()
        whole = embeddings.clone()
        whole[:, 6:8], whole[:, 1:6] = learned, common
        features = encode(backbone, whole, eot, deep)
        wave = torch.linspace(-1, 1, features.numel()).sin().reshape(features.shape)
        (F.normalize(features, dim=-1) * wave).sum().backward()
        results.append([features.detach(), learned.grad, common.grad, *(token.grad for token in deep)])
    assert len(results[0]) == 3 + backbone.text_layers - 1
    for want, got in zip(*results, strict=True):
        assert float(want.abs().max()) > 0
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("shape", SHAPES)
def test_places_left_out_change_nothing(backbone_of: Callable[..., Backbone], shape: str) -> None:
    """Prompts of two lengths, together, alone and at full length: equal to 1e-6 of the largest value."""
    backbone = backbone_of(shape)
    deep = [token.detach() for token in tokens(backbone)]
    embeddings, eot = prompts(backbone)
    ends = torch.tensor([int(eot[0]) - 2, *eot[1:].tolist()])
    want = slow(backbone, embeddings, ends, deep)
    alone = torch.cat(
        [encode_deep(backbone, embeddings[k : k + 1], ends[k : k + 1], deep) for k in range(len(ends))]
    )
    for have in (encode_deep(backbone, embeddings, ends, deep), alone):
        assert float((have - want).abs().max() / want.abs().max()) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_without_deep_tokens_it_is_the_plain_encoder(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    backbone = backbone_of(shape)
    embeddings, eot = prompts(backbone)
    want = encode_prompts(backbone, embeddings, eot)
    assert torch.allclose(encode_deep(backbone, embeddings, eot, []), want, atol=1e-6)
    assert (encode_deep(backbone, embeddings, eot, tokens(backbone)) - want).abs().max() > 1e-3


def test_prompts_of_different_lengths_are_read_at_their_own_ends(
    backbone_of: Callable[..., Backbone],
) -> None:
    backbone = backbone_of("tok")
    deep = tokens(backbone)
    both, ends = [], []
    for count, words in ((5, "object."), (7, "damaged object.")):
        template = PromptTemplate.context(count, words).tokenize(backbone)
        both.append(embed(backbone, template.ids))
        ends.append(template.eot)
    assert ends == [8, 11]  # FAPrompt's two
    together = encode_deep(backbone, torch.stack(both), torch.tensor(ends), deep)
    for k in range(2):
        alone = encode_deep(backbone, both[k][None, : ends[k] + 1], torch.tensor(ends[k : k + 1]), deep)
        assert torch.allclose(together[k], alone[0], atol=1e-5)
        assert torch.allclose(
            together[k], slow(backbone, both[k][None], torch.tensor([ends[k]]), deep)[0], atol=1e-5
        )


def test_the_tokens_of_every_layer_count(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    embeddings, eot = prompts(backbone, 1)
    deep = [token.detach() for token in tokens(backbone)]
    before = encode_deep(backbone, embeddings, eot, deep)
    for k in range(len(deep)):
        moved = list(deep)
        moved[k] = deep[k].flip(-1)
        assert (encode_deep(backbone, embeddings, eot, moved) - before).abs().max() > 1e-4


def test_depth_ends_with_the_tower_and_depth_one_means_none(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    generator = torch.Generator().manual_seed(0)
    assert backbone.text_layers == 3
    assert [tuple(t.shape) for t in deep_tokens(backbone, 9, 4, generator)] == [(4, 32), (4, 32)]
    assert len(deep_tokens(backbone, 2, 4, generator)) == 1
    assert len(deep_tokens(backbone, 1, 4, generator)) == 0


def test_tokens_start_small_and_from_their_seed(tiny: Backbone) -> None:
    drawn = [deep_tokens(tiny, 9, 64, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert float(torch.cat([*drawn[0]]).detach().std()) == pytest.approx(0.02, rel=0.05)


def test_half_rounds_values_and_the_gradients_of_each_prompt(backbone_of: Callable[..., Backbone]) -> None:
    """Released code casts after the tokens were repeated: gradients are rounded a prompt, then summed."""
    backbone = backbone_of("tok")
    embeddings, eot = prompts(backbone)
    deep = tokens(backbone)
    rounded = [token.detach().half().float() for token in deep]
    assert any(not torch.equal(a, b) for a, b in zip(deep, rounded, strict=True))
    got = encode_deep(backbone, embeddings, eot, deep, half=True)
    assert torch.allclose(got, encode_deep(backbone, embeddings, eot, rounded), atol=1e-6)
    got.square().sum().backward()

    want = torch.zeros_like(deep[0])
    for k in range(len(embeddings)):
        one = [token.clone().requires_grad_() for token in rounded]
        encode_deep(backbone, embeddings[k : k + 1], eot[k : k + 1], one).square().sum().backward()
        want += one[0].grad.half().float()
    ulp = 2.0**-10 * float(want.abs().max())
    assert float((deep[0].grad - want).abs().max()) <= ulp
    unrounded = tokens(backbone)
    encode_deep(backbone, embeddings, eot, unrounded).square().sum().backward()
    assert not torch.equal(deep[0].grad, unrounded[0].grad)


def test_encoding_changes_nothing(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    deep = tokens(backbone)
    kept = [token.detach().clone() for token in deep]
    embeddings, eot = prompts(backbone)
    copy = embeddings.clone()
    encode_deep(backbone, embeddings, eot, deep)
    assert torch.equal(copy, embeddings)
    assert all(torch.equal(a, b) for a, b in zip(kept, deep, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_deep_tokens_on_the_end_token_are_refused(tiny: Backbone) -> None:
    embeddings, eot = prompts(tiny)
    with pytest.raises(
        FlawlineError, match="11 deep tokens overwrite the end of a prompt of 12 tokens"
    ) as error:
        encode_deep(tiny, embeddings, eot, [torch.zeros(11, tiny.text_width)])
    assert "deep_length to 10" in str(error.value)
    encode_deep(tiny, embeddings, eot, [torch.zeros(10, tiny.text_width)])
