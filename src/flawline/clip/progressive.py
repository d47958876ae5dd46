"""Progressive deep prompts: learned tokens that are inserted into a frozen tower and renewed at every block.

Dimensions: B sequences, T tokens, k inserted tokens, W width, D joint, depth = blocks with tokens of their own.

FACT (DAPO, arXiv 2512.09446, and its released code): the tokens of the first block stand directly behind the first
token of the sequence (start or class token) and carry no position; block i of the later ones reads, at the same
places, alpha · what block i - 1 made there + (1 - alpha) · its own tokens. CODE: beyond `depth` the places stay as
the blocks make them, to the end of the image tower; the text tower loses them after the first block beyond `depth`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import block_number, image_feature
from flawline.clip.text_path import PromptTemplate, embed, fill, project
from flawline.errors import FlawlineError


class Level(NamedTuple):
    """The stream after a block: `number` counts blocks from 1; tokens [B, T + inserted, W]."""

    number: int
    tokens: Tensor
    inserted: int

    @property
    def own(self) -> Tensor:
        """[B, T, W]: the sequence's own tokens, without the inserted ones."""
        return without(self.tokens, self.inserted)


def insert(tokens: Tensor, learned: Tensor) -> Tensor:
    """Put learned tokens [k, W] behind the first token of each sequence [B, T, W] → [B, T + k, W]."""
    return torch.cat([tokens[:, :1], learned.expand(len(tokens), -1, -1).to(tokens.dtype), tokens[:, 1:]], 1)


def renew(tokens: Tensor, learned: Tensor, alpha: float) -> Tensor:
    """Mix learned tokens [k, W] into the places that `insert` made in [B, T + k, W]; nothing is overwritten."""
    k = len(learned)
    mixed = alpha * tokens[:, 1 : 1 + k] + (1 - alpha) * learned
    return torch.cat([tokens[:, :1], mixed.to(tokens.dtype), tokens[:, 1 + k :]], 1)


def without(tokens: Tensor, inserted: int) -> Tensor:
    """[B, T + inserted, W] → [B, T, W]: the sequence without its inserted tokens."""
    return tokens if not inserted else torch.cat([tokens[:, :1], tokens[:, 1 + inserted :]], 1)


def walk_inserted(
    blocks: Iterable[Any],
    tokens: Tensor,
    learned: Tensor | None,
    alpha: float,
    *,
    causal: bool = False,
    drop: bool = False,
    recompute: bool = False,
) -> Iterator[Level]:
    """Run a tower's blocks with progressive prompts, differentiable with respect to them.

    Args:
        blocks: open_clip's residual attention blocks, batch first.
        tokens: [B, T, W] what the first block would see without prompts.
        learned: [depth, k, W], depth at most the number of blocks; None: no prompts.
        alpha: share of a block's own output in the tokens of the next, 0..1.
        causal: a token sees only what stands before it, inserted tokens included; else it sees everything.
        drop: take the inserted tokens out after the first block beyond the depth.
        recompute: keep no activations inside blocks and compute them again in the backward pass (less memory).
    """
    depth, k = (0, 0) if learned is None else learned.shape[:2]
    x, inserted = tokens, 0
    for index, block in enumerate(blocks):
        if learned is not None and index < depth:
            x = insert(x, learned[0]) if index == 0 else renew(x, learned[index], alpha)
            inserted = k
        mask = _causal(x) if causal else None
        if recompute and torch.is_grad_enabled():
            x = checkpoint(block, x, None, None, mask, use_reentrant=False)
        else:
            x = block(x, attn_mask=mask)
        if drop and inserted and index >= depth:
            x, inserted = without(x, inserted), 0
        yield Level(index + 1, x, inserted)


def _causal(tokens: Tensor) -> Tensor:
    length = tokens.shape[1]
    full = torch.full((length, length), float("-inf"), device=tokens.device, dtype=tokens.dtype)
    return full.triu(1)


def encode_pixels(
    backbone: Backbone,
    pixels: Tensor,
    learned: Tensor | None,
    alpha: float,
    levels: list[int],
    recompute: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """Images through the image tower with progressive prompts; no inserted token reaches a result.

    Args:
        backbone: the frozen CLIP.
        pixels: [B, 3, S, S] as `Backbone.preprocess` makes them.
        learned: [depth, k, W] or None.
        alpha: as in `walk_inserted`.
        levels: blocks to tap, counted from 1.
        recompute: as in `walk_inserted`.

    Returns:
        Image features [B, D] of unit length, by the backbone's own pooling over its own tokens, and for each level
        the residual stream's patch tokens [B, N, W], raw.
    """
    visual = backbone.visual
    tokens = visual._embeds(pixels.to(backbone.device))
    blocks, taps = visual.transformer.resblocks, {}
    level = None
    for level in walk_inserted(blocks, tokens, learned, alpha, recompute=recompute):
        if level.number in levels:
            taps[level.number] = level.own[:, 1:]
    assert level is not None
    return image_feature(backbone, level.own), [taps[number] for number in levels]


def encode_deep_prompts(
    backbone: Backbone,
    embeddings: Tensor,
    eot: Tensor,
    learned: Tensor | None,
    alpha: float,
    *,
    clean: bool = True,
    recompute: bool = False,
) -> Tensor:
    """Token embeddings through the text tower with progressive prompts.

    Args:
        backbone: the frozen CLIP.
        embeddings: [P, T, W] without positions.
        eot: int64 [P], place of each end token before anything is inserted.
        learned: [depth, k, W] or None.
        alpha: as in `walk_inserted`.
        clean: causal attention, and the feature is read at the end token. Else as DAPO's released code: full
            attention, and the feature is read at the place where the end token stood before the insertion.
        recompute: as in `walk_inserted`.

    Returns:
        Raw features [P, D], not normalised.
    """
    tower = backbone.text
    causal = clean and tower.attn_mask is not None
    length = int(eot.max()) + 1 if causal else embeddings.shape[1]  # nobody sees what follows the last end
    x = embeddings[:, :length] + tower.positional_embedding[:length]
    blocks = tower.transformer.resblocks
    *_, level = walk_inserted(blocks, x, learned, alpha, causal=causal, drop=True, recompute=recompute)
    places = eot.to(x.device) + (level.inserted if clean else 0)
    picked = level.tokens[torch.arange(len(x), device=x.device), places]
    return project(tower.text_projection, tower.ln_final(picked))


def encode_states(
    backbone: Backbone,
    contexts: Tensor,
    states: list[str],
    learned: Tensor | None,
    alpha: float,
    clean: bool = True,
    recompute: bool = False,
) -> Tensor:
    """Hybrid prompts: learned context before fixed words; raw features [C, D], means over the variants.

    Args:
        backbone: the frozen CLIP.
        contexts: [C, E, l, W], E variants of l learned tokens for each of C states.
        states: the C phrases that follow the contexts.
        learned, alpha, clean, recompute: as in `encode_deep_prompts`.

    Raises:
        FlawlineError: a prompt is too long for the text tower.
    """
    count, variants, length, _ = contexts.shape
    tokens = [PromptTemplate.context(length, state).tokenize(backbone) for state in states]
    base = embed(backbone, torch.stack([token.ids for token in tokens]))[:, None]
    prompts = fill(base.expand(-1, variants, -1, -1), tokens[0].slots, contexts).flatten(0, 1)
    eot = torch.tensor([token.eot for token in tokens]).repeat_interleave(variants)
    features = encode_deep_prompts(backbone, prompts, eot, learned, alpha, clean=clean, recompute=recompute)
    return features.float().unflatten(0, (count, variants)).mean(1)


def word_like(backbone: Backbone, generator: torch.Generator, *shape: int) -> nn.Parameter:
    """Learned tokens [*shape, W of the text tower] with the mean and deviation of the token table, by dimension."""
    table = backbone.text.token_embedding.weight.detach().cpu().float()
    drawn = torch.randn(*shape, backbone.text_width, generator=generator)
    return nn.Parameter((drawn * table.std(0) + table.mean(0)).to(backbone.device))


def patch_like(backbone: Backbone, generator: torch.Generator, *shape: int) -> nn.Parameter:
    """Learned tokens [*shape, W of the image tower], uniform as visual prompt tuning starts them."""
    reach = (6 / (3 * backbone.patch_size**2 + backbone.vision_width)) ** 0.5
    drawn = torch.rand(*shape, backbone.vision_width, generator=generator)
    return nn.Parameter(((2 * drawn - 1) * reach).to(backbone.device))


def joint_adapter(backbone: Backbone, generator: torch.Generator) -> nn.Linear:
    """A linear map from the image tower's width to the joint dimension; nn.Linear's own start, from a seed."""
    width = backbone.vision_width
    adapter: nn.Linear = nn.utils.skip_init(nn.Linear, width, backbone.dim, device=backbone.device)
    for parameter in adapter.parameters():
        drawn = torch.rand(parameter.shape, generator=generator)
        parameter.data.copy_((2 * drawn - 1) * width**-0.5)
    return adapter


def tapped_blocks(key: str, wanted: Sequence[int | float], backbone: Backbone) -> list[int]:
    """Blocks of the image tower, counted from 1, from numbers or shares of its depth.

    Raises:
        FlawlineError: a block that is not there, named twice or out of order; the message names `key`.
    """
    depth, model = backbone.vision_layers, backbone.settings.name
    levels = [block_number(level, depth) for level in wanted]
    if levels != sorted(set(levels)) or levels[-1] > depth:
        raise FlawlineError(
            f"{key}: {list(wanted)} are blocks {levels} of the {depth} of {model}",
            "name blocks that are there, each once, in order",
        )
    return levels


def first_blocks(key: str, wanted: int | float, layers: int) -> int:
    """How many of a tower's first blocks carry prompts, from a number or a share of its depth; 0 for none.

    Raises:
        FlawlineError: more than the tower has; the message names `key`.
    """
    depth = block_number(wanted, layers) if wanted else 0
    if depth > layers:
        raise FlawlineError(f"{key}: {wanted}, but the tower has {layers} blocks", f"give 0 to {layers}")
    return depth
