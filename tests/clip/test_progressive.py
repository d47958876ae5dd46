"""Progressive deep prompts against slow loops over open_clip's own blocks; what they must never touch."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image, walk
from flawline.clip.progressive import (
    encode_deep_prompts,
    encode_pixels,
    encode_states,
    first_blocks,
    insert,
    joint_adapter,
    patch_like,
    renew,
    tapped_blocks,
    walk_inserted,
    without,
    word_like,
)
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts
from flawline.errors import FlawlineError
from flawline.settings import ImagePath

ALPHA = 0.3


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def learned(depth: int, width: int, k: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(depth, k, width, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def slow(blocks: list, x: Tensor, tokens: Tensor, alpha: float, mask: Callable | None, drop: bool) -> list:
    """One sequence position at a time, in place: the stream after every block, inserted tokens included."""
    depth, k, _ = tokens.shape
    x, seen = torch.cat([x[:, :1], tokens[0].repeat(len(x), 1, 1), x[:, 1:]], 1), []
    for number, block in enumerate(blocks):
        if 0 < number < depth:
            x = x.clone()
            for place in range(k):
                x[:, 1 + place] = alpha * x[:, 1 + place] + (1 - alpha) * tokens[number, place]
        x = block(x, attn_mask=None if mask is None else mask(x.shape[1]))
        if drop and number == depth:
            x = torch.cat([x[:, :1], x[:, 1 + k :]], 1)
        seen.append(x)
    return seen


def causal(length: int) -> Tensor:
    mask = torch.zeros(length, length)
    for row in range(length):
        mask[row, row + 1 :] = float("-inf")
    return mask


def prompts(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Embeddings [2, T, W] and ends [2] of two sentences of different length."""
    ids = backbone.tokenize(["a scratched gear", "flawless object in some light"])
    return embed(backbone, ids), ids.argmax(-1)


def test_inserting_renewing_and_taking_out_keep_the_rest() -> None:
    x, one, two = torch.randn(2, 5, 4), torch.randn(3, 4), torch.randn(3, 4)
    before = x.clone()
    longer = insert(x, one)
    assert longer.shape == (2, 8, 4)
    assert torch.equal(longer[1, 1:4], one) and torch.equal(without(longer, 3), x)
    mixed = renew(longer, two, 0.25)
    assert torch.allclose(mixed[0, 1:4], 0.25 * one + 0.75 * two) and torch.equal(without(mixed, 3), x)
    assert torch.equal(x, before) and torch.equal(longer[1, 1:4], one)
    assert torch.equal(without(x, 0), x)


@pytest.mark.parametrize("shape", ["tok", "avg", "avg-ln-after", "layerscale", "quickgelu"])
@pytest.mark.parametrize("depth", [4, 2])
def test_image_tower_equals_the_slow_loop(
    backbone_of: Callable[..., Backbone], shape: str, depth: int
) -> None:
    """Also beyond the depth, where the places stay as the blocks make them."""
    backbone = backbone_of(shape)
    visual, tokens = backbone.visual, learned(depth, backbone.vision_width)
    cls, taps = encode_pixels(backbone, pictures(), tokens, ALPHA, [1, 3, 4])
    seen = slow(visual.transformer.resblocks, visual._embeds(pictures()), tokens, ALPHA, None, False)
    for tap, block in zip(taps, (1, 3, 4), strict=True):
        assert tap.shape == (2, backbone.grid**2, backbone.vision_width)
        assert torch.allclose(tap, seen[block - 1][:, 4:], atol=1e-5)
    own = torch.cat([seen[-1][:, :1], seen[-1][:, 4:]], 1)
    pooled, _ = visual._pool(own)
    assert torch.allclose(cls, F.normalize(pooled @ visual.proj, dim=-1), atol=1e-5)


@pytest.mark.parametrize("shape", ["tok", "own-text", "layerscale"])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("late", [0, 1])
def test_text_tower_equals_the_slow_loop(
    backbone_of: Callable[..., Backbone], shape: str, clean: bool, late: int
) -> None:
    """Full length, with the tokens dropped after the first block beyond the depth (late 1) or never (0)."""
    backbone = backbone_of(shape)
    tower, (embeddings, eot) = backbone.text, prompts(backbone)
    blocks = tower.transformer.resblocks
    tokens = learned(backbone.text_layers - late, backbone.text_width)
    found = encode_deep_prompts(backbone, embeddings, eot, tokens, ALPHA, clean=clean)
    x = embeddings + tower.positional_embedding
    last = slow(blocks, x, tokens, ALPHA, causal if clean else None, drop=True)[-1]
    assert last.shape[1] == embeddings.shape[1] + (0 if late else 3)
    at = eot + (3 if clean and not late else 0)
    pooled = tower.ln_final(last[torch.arange(2), at])
    projection = tower.text_projection
    want = projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection
    assert torch.allclose(found, want, atol=1e-5)


def test_the_two_text_modes_differ(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    tokens = learned(3, backbone.text_width)
    one, other = (
        encode_deep_prompts(backbone, *prompts(backbone), tokens, ALPHA, clean=clean)
        for clean in (True, False)
    )
    assert (one - other).abs().max() > 1e-2


def test_without_tokens_both_towers_are_plain(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("avg")
    cls, (tap,) = encode_pixels(backbone, pictures(), None, ALPHA, [4])
    assert torch.allclose(cls, encode_image(backbone, pictures(), {"p": ImagePath()})["p"].cls, atol=1e-5)
    *_, last = walk(backbone, pictures())
    assert torch.allclose(tap, last.after[:, 1:], atol=1e-5)
    plain = encode_prompts(backbone, *prompts(backbone))
    assert torch.allclose(encode_deep_prompts(backbone, *prompts(backbone), None, ALPHA), plain, atol=1e-5)


@pytest.mark.parametrize("shape", ["tok", "avg"])
def test_inserted_tokens_change_features_through_attention_alone(
    backbone_of: Callable[..., Backbone], shape: str
) -> None:
    """Where attention passes nothing on, an insertion has no effect at all: nothing is pooled or tapped."""
    backbone = backbone_of(shape)
    tokens = learned(4, backbone.vision_width)
    plain, taps = encode_pixels(backbone, pictures(), None, ALPHA, [2, 4])
    inserted, changed = encode_pixels(backbone, pictures(), tokens, ALPHA, [2, 4])
    assert (plain - inserted).abs().max() > 1e-3
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(taps, changed, strict=True))
    for block in backbone.visual.transformer.resblocks:
        block.attn.out_proj.weight.data.zero_()
    plain, taps = encode_pixels(backbone, pictures(), None, ALPHA, [2, 4])
    inserted, changed = encode_pixels(backbone, pictures(), tokens, ALPHA, [2, 4])
    assert torch.allclose(plain, inserted, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(taps, changed, strict=True))


def test_alpha_0_forgets_what_a_block_made_and_alpha_1_forgets_later_tokens(
    backbone_of: Callable[..., Backbone],
) -> None:
    backbone = backbone_of("tok")
    tokens = learned(4, backbone.vision_width)
    blocks, x = backbone.visual.transformer.resblocks, backbone.visual._embeds(pictures())
    seen: list[Tensor] = []
    handles = [block.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for block in blocks]
    list(walk_inserted(blocks, x, tokens, 0.0))
    for handle in handles:
        handle.remove()
    for block, given in enumerate(seen):
        assert torch.equal(given[:, 1:4], tokens[block].expand(2, -1, -1))
    encode_pixels(backbone, pictures(), tokens, 1.0, [4])[0].sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0].abs().max() > 0 and float(tokens.grad[1:].abs().max()) == 0


def test_every_layers_tokens_get_a_gradient_and_the_tower_none(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("avg")
    visual, text = learned(4, backbone.vision_width), learned(3, backbone.text_width)
    cls, taps = encode_pixels(backbone, pictures(), visual, ALPHA, [4])
    words = encode_deep_prompts(backbone, *prompts(backbone), text, ALPHA)
    (cls[:, 0].sum() + taps[0][..., 0].sum() + words[:, 0].sum()).backward()
    for tokens in (visual, text):
        assert tokens.grad is not None and bool((tokens.grad.abs().amax((1, 2)) > 0).all())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_recomputing_changes_neither_values_nor_gradients(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    found = []
    for recompute in (False, True):
        visual, text = learned(4, backbone.vision_width), learned(2, backbone.text_width)
        cls, _ = encode_pixels(backbone, pictures(), visual, ALPHA, [2], recompute)
        words = encode_deep_prompts(backbone, *prompts(backbone), text, ALPHA, recompute=recompute)
        (cls @ words.T).square().sum().backward()
        found.append([cls.detach(), words.detach(), visual.grad, text.grad])
    for kept, again in zip(*found, strict=True):
        assert torch.allclose(kept, again, atol=1e-6)


def test_tapped_levels_differ_and_stay_as_they_were(backbone_of: Callable[..., Backbone]) -> None:
    """The in-place bug of released code: all tapped maps are the last one."""
    backbone = backbone_of("tok")
    tokens = learned(4, backbone.vision_width)
    _, together = encode_pixels(backbone, pictures(), tokens, ALPHA, [1, 2, 3, 4])
    for one, other in pairwise(together):
        assert (one - other).abs().max() > 1e-3
    for number, tap in enumerate(together, 1):
        _, (alone,) = encode_pixels(backbone, pictures(), tokens, ALPHA, [number])
        assert torch.equal(alone, tap)


def test_hybrid_prompts_average_their_variants(backbone_of: Callable[..., Backbone]) -> None:
    """Each variant by itself, one state at a time, gives the same mean."""
    backbone = backbone_of("tok")
    contexts = torch.randn(2, 3, 4, backbone.text_width, generator=torch.Generator().manual_seed(2))
    tokens, states = learned(3, backbone.text_width), ["flawless object", "burn mark anomaly object"]
    for clean in (True, False):
        found = encode_states(backbone, contexts, states, tokens, ALPHA, clean)
        for row, state in enumerate(states):
            template = PromptTemplate.context(4, state).tokenize(backbone)
            parts = []
            for variant in contexts[row]:
                sequence = embed(backbone, template.ids).clone()
                sequence[1:5] = variant
                end = torch.tensor([template.eot])
                parts.append(
                    encode_deep_prompts(backbone, sequence[None], end, tokens, ALPHA, clean=clean)[0]
                )
            assert torch.allclose(found[row], torch.stack(parts).mean(0), atol=1e-5)


def test_autocast_works_and_stays_close(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("avg")
    visual, text = learned(4, backbone.vision_width), learned(3, backbone.text_width)

    def both(clean: bool) -> tuple[Tensor, Tensor]:
        words = encode_deep_prompts(backbone, *prompts(backbone), text, ALPHA, clean=clean)
        return encode_pixels(backbone, pictures(), visual, ALPHA, [4])[0], words

    for clean in (True, False):
        exact = both(clean)
        with torch.autocast("cpu", torch.bfloat16):
            rough = both(clean)
        for one, other in zip(exact, rough, strict=True):
            assert float(F.cosine_similarity(one, other.float(), dim=-1).detach().min()) > 0.99
    sum(value.float().sum() for value in rough).backward()
    assert visual.grad is not None and bool(visual.grad.isfinite().all())


def test_starts_are_drawn_from_the_seed_alone(backbone_of: Callable[..., Backbone]) -> None:
    backbone, state = backbone_of("tok"), torch.random.get_rng_state()
    table = backbone.text.token_embedding.weight
    words = word_like(backbone, torch.Generator().manual_seed(0), 500, 5)
    assert words.shape == (500, 5, backbone.text_width)
    assert torch.allclose(words.mean((0, 1)), table.mean(0), atol=5 * float(table.std()) / 50)
    assert torch.allclose(words.std((0, 1)), table.std(0), rtol=0.15)
    tokens = patch_like(backbone, torch.Generator().manual_seed(0), 50, 4)
    reach = (6 / (3 * 8 * 8 + 48)) ** 0.5
    assert (
        0.98 * reach < float(tokens.detach().abs().max()) <= reach
        and abs(float(tokens.detach().mean())) < 0.02
    )
    one, again = (joint_adapter(backbone, torch.Generator().manual_seed(4)) for _ in range(2))
    assert one.weight.shape == (backbone.dim, backbone.vision_width)
    assert torch.equal(one.weight, again.weight) and torch.equal(one.bias, again.bias)
    assert 0.9 * 48**-0.5 < float(one.weight.detach().abs().max()) <= 48**-0.5
    assert torch.equal(torch.random.get_rng_state(), state)


def test_blocks_are_numbers_or_shares(backbone_of: Callable[..., Backbone], tiny: Backbone) -> None:
    shares = [0.25, 0.5, 0.75, 1.0]
    assert tapped_blocks("levels", shares, backbone_of("tok")) == [1, 2, 3, 4]
    assert tapped_blocks("levels", shares, tiny) == [2, 3, 4, 6]
    assert tapped_blocks("levels", [1, 6], tiny) == [1, 6]
    assert [first_blocks("depth", wanted, 12) for wanted in (1.0, 0.5, 9, 0)] == [12, 6, 9, 0]
    for wrong in ([7], [3, 2], [0.5, 3]):
        with pytest.raises(FlawlineError, match=r"levels: .* of the 6 of flawline-tiny"):
            tapped_blocks("levels", wrong, tiny)
    with pytest.raises(FlawlineError, match=r"depth: 13, but the tower has 12"):
        first_blocks("depth", 13, 12)
