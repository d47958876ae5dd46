"""Prompts that begin alike, encoded as one trunk with branches.

The causal mask makes a token blind to what follows it, so places that are alike at the start of prompts are alike in
every text layer: the trunk is encoded once, and branches look at its keys and values. They may come later, as the
prompts of a second pass do. Equal to encoding every prompt whole but for rounding (1e-6).

Dimensions: s trunk tokens, P branches, t tokens of a branch, W text width, D joint; a table [rows, W] holds the trunk,
where it is encoded along, and then the tokens of all branches.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.deep_text import encode_deep, overwrite
from flawline.clip.products import PlainBlock, frozen_linear
from flawline.clip.text_path import attend, finish, project

_BUNCH_TOKENS = 32
Shape = tuple[int, int]  # branches, tokens of each


class PromptTree:
    """A trunk of tokens, and what branches need of it. Good for as long as its tokens do not change.

    Args:
        backbone: the frozen CLIP.
        trunk: [s, W] embeddings without positions, start token included.
        deep: tokens [k, W] for text layer 2, 3, …, as in flawline.clip.deep_text.
        half: round the deep tokens to float16 a sequence, as released code does; the prompts are encoded whole then,
            and where deep tokens reach beyond the trunk, and on text towers of other blocks than CLIP's.
    """

    def __init__(
        self, backbone: Backbone, trunk: Tensor, deep: Sequence[Tensor] = (), half: bool = False
    ) -> None:
        self._backbone, self._trunk, self._deep, self._half = backbone, trunk, deep, half
        self._blocks: list[Any] = list(backbone.text.transformer.resblocks)
        self._seen: list[Tensor] = []  # the trunk's keys and values [s, 2W], a layer
        self._masks: dict[tuple[int, int, int], Tensor] = {}
        reach = max((len(tokens) for tokens in deep), default=0)
        plain = all(isinstance(block, PlainBlock) for block in self._blocks)
        self._whole = half or reach >= len(trunk) or not plain

    def encode(self, *groups: Tensor) -> list[Tensor]:
        """Raw features [P, D], with gradients, of each group of branches [P, t, W]. The first call encodes the trunk.

        A branch is what follows the trunk, embeddings without positions, up to the end token and with it: there the
        feature is read.

        Raises:
            FlawlineError: the deep tokens reach an end token.
        """
        if self._whole:
            return [self._encode_whole(branches) for branches in groups]
        tower, start = self._backbone.text, len(self._trunk)
        places = tower.positional_embedding
        parts = [] if self._seen else [self._trunk + places[:start]]
        for branches in groups:
            parts.append((branches + places[start : start + branches.shape[1]]).flatten(0, 1))
        ends = self._through_blocks(torch.cat(parts), [(len(one), one.shape[1]) for one in groups])
        features: Tensor = project(tower.text_projection, tower.ln_final(ends))
        return list(features.split([len(branches) for branches in groups]))

    def _encode_whole(self, branches: Tensor) -> Tensor:
        prompts = torch.cat([self._trunk.expand(len(branches), -1, -1), branches], dim=1)
        ends = torch.full((len(branches),), prompts.shape[1] - 1)
        return encode_deep(self._backbone, prompts, ends, self._deep, self._half)

    def _through_blocks(self, table: Tensor, shapes: list[Shape]) -> Tensor:
        """Hidden states of the end tokens after the last block [all P, W].

        What works on single tokens (norms, projections, MLP) runs over the table at once; in the last block, where
        nothing looks at other tokens any more, the end tokens alone ask.
        """
        start = 0 if self._seen else len(self._trunk)
        ends = _ends(start, shapes).to(table.device)
        for layer, block in enumerate(self._blocks):
            if start and 1 <= layer <= len(self._deep):
                head, rest = table.split([start, len(table) - start])
                table = torch.cat([overwrite(head[None], self._deep[layer - 1])[0], rest])
            weight, bias, width = block.attn.in_proj_weight, block.attn.in_proj_bias, table.shape[-1]
            normed = block.ln_1(table)
            if block is self._blocks[-1]:
                asking = frozen_linear(normed[ends], weight[:width], bias[:width])
                queries = _parted(asking, 0, [(count, 1) for count, _ in shapes])
                seen = _parted(frozen_linear(normed, weight[width:], bias[width:]), start, shapes)
                if start:
                    self._seen.append(seen.pop(0))
                return finish(block, table[ends], torch.cat(self._mixed(layer, queries, seen)))
            projected = frozen_linear(normed, weight, bias)
            parts = [part.split([width, 2 * width], dim=-1) for part in _parted(projected, start, shapes)]
            mixed = []
            if start:
                query, trunk = parts.pop(0)
                self._seen.append(trunk)
                mask = self._backbone.text.attn_mask[:start, :start]
                mixed.append(self._attend(block, query[None], trunk[None], mask)[0])
            mixed += self._mixed(layer, [query for query, _ in parts], [own for _, own in parts])
            table = finish(block, table, torch.cat(mixed))
        raise AssertionError("a text tower has blocks")

    def _mixed(self, layer: int, queries: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        """Heads [P·q, W] of branches that look at the trunk and at themselves: queries [P, q, W] and keys and values
        [P, t, 2W] of each group.

        Branches of a few tokens go to the attention in bunches, masked from each other: short sequences cost it more
        for themselves than for what they hold.
        """
        found = []
        for query, each in zip(queries, own, strict=True):
            bunch = _bunch(*each.shape[:2])
            query, each = (part.reshape(-1, bunch * part.shape[1], part.shape[2]) for part in (query, each))
            seen = torch.cat([self._seen[layer].expand(len(each), -1, -1), each], dim=1)
            mask = self._mask(query.shape[1] // bunch, each.shape[1] // bunch, bunch)
            found.append(self._attend(self._blocks[layer], query, seen, mask).flatten(0, 1))
        return found

    def _mask(self, asking: int, own: int, bunch: int) -> Tensor:
        """What the last tokens of a bunch of branches see of the trunk and of the branches: [bunch·q, s + bunch·t]."""
        if (asking, own, bunch) in self._masks:
            return self._masks[asking, own, bunch]
        start, whole = len(self._trunk), self._backbone.text.attn_mask
        single = whole[start + own - asking : start + own, : start + own]
        apart = whole.new_full((bunch, asking, bunch, own), float("-inf"))
        each = torch.arange(bunch, device=whole.device)
        apart[each, :, each] = single[:, start:]
        mask = torch.cat([single[:, :start].repeat(bunch, 1), apart.flatten(2).flatten(0, 1)], dim=1)
        self._masks[asking, own, bunch] = mask
        return mask

    @staticmethod
    def _attend(block: Any, query: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        """Heads [P, q, W] of queries [P, q, W] among keys and values [P, T, 2W]."""
        keys, values = seen.chunk(2, dim=-1)
        return attend(block, query, keys, values, mask)


def _bunch(count: int, own: int) -> int:
    """How many of `count` branches of `own` tokens are attended together: a divisor of their number."""
    return max(k for k in range(1, count + 1) if count % k == 0 and (k == 1 or k * own <= _BUNCH_TOKENS))


def _parted(table: Tensor, start: int, shapes: list[Shape]) -> list[Tensor]:
    """A table as its first `start` rows [s, ·], if any, and each group's tokens [P, t, ·]."""
    sizes = [count * own for count, own in shapes]
    parts = list(table.split([start, *sizes] if start else sizes))
    trunk = [parts.pop(0)] if start else []
    return trunk + [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


def _ends(start: int, shapes: list[Shape]) -> Tensor:
    """Rows of the end tokens in a table that begins with `start` rows of the trunk: int64 [all P]."""
    found = []
    for count, own in shapes:
        found.append(start + torch.arange(1, count + 1) * own - 1)
        start += count * own
    return torch.cat(found)
