"""How patch features are read from the frozen image tower.

Dimensions: B images, L = N + 1 tokens (the class token first), N = grid² patches, W width, H heads, D joint.

A dual path (CLIP Surgery, AnomalyCLIP's DPAM) keeps a *local* stream beside the original one: from a first
block on it adds the attention of every block, computed from the ORIGINAL stream's normalised input, but no
MLP. The original stream is untouched, so the image feature is plain CLIP's. `vv` compares values with values
instead of queries with keys; `radius` lets a patch see only patches near it, and no class token (LAA, arXiv
2406.18197).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.settings import ImagePath


@dataclass(frozen=True)
class Step:
    """What one block of the original stream saw and made; `number` counts from 1."""

    number: int
    block: Any
    before: Tensor  # [B, L, W] input of the block
    q: Tensor  # [B, H, L, W/H] from LN1(before), as are k and v
    k: Tensor
    v: Tensor
    after: Tensor  # [B, L, W] output of the block


@torch.no_grad()
def encode_image(
    backbone: Backbone, images: Tensor, paths: dict[str, ImagePath]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and patch features of a batch, in one pass of the original stream for all paths.

    Args:
        backbone: the frozen CLIP.
        images: [B, 3, S, S] as `Backbone.preprocess` makes them.
        paths: how to read patches; may be empty.

    Returns:
        The image feature [B, D], equal to open_clip's encode_image, and for each path patch features
        [B, N, D] in raster order; all L2-normalised.

    Raises:
        FlawlineError: a path starts after the last block.
    """
    check_paths(backbone, paths)
    streams = {name: LocalStream(path, backbone) for name, path in paths.items() if path.attention != "plain"}
    step = None
    for step in walk(backbone, images):
        for stream in streams.values():
            stream.advance(step)
    assert step is not None
    pooled, _ = backbone.visual._pool(step.after)
    cls = F.normalize(pooled @ backbone.visual.proj, dim=-1)
    patches = {
        name: read_patches(backbone, streams[name].tokens if name in streams else step.after[:, 1:])
        for name in paths
    }
    return cls, patches


def check_paths(backbone: Backbone, paths: dict[str, ImagePath]) -> None:
    """Raise FlawlineError where a path asks for a block that the backbone does not have."""
    for name, path in paths.items():
        if path.first_block > backbone.vision_layers:
            raise FlawlineError(
                f"features.paths.{name}.first_block: {path.first_block}, but {backbone.settings.name} has "
                f"{backbone.vision_layers} blocks",
                f"give 1 to {backbone.vision_layers}",
            )


def read_patches(backbone: Backbone, tokens: Tensor) -> Tensor:
    """Patch tokens [B, N, W] of any stream at any block → features [B, N, D], L2-normalised."""
    return F.normalize(backbone.visual.ln_post(tokens) @ backbone.visual.proj, dim=-1)


def walk(backbone: Backbone, images: Tensor) -> Iterator[Step]:
    """Run the original stream block by block; tap any level by the step's number."""
    x = backbone.visual._embeds(images.to(backbone.device))
    for number, block in enumerate(backbone.visual.transformer.resblocks, 1):
        q, k, v = _split(block, block.ln_1(x))
        after = x + _attend(block, q, k, v)
        after = after + block.ls_2(block.mlp(block.ln_2(after)))
        yield Step(number, block, x, q, k, v, after)
        x = after


class LocalStream:
    """The patch tokens of one dual path, advanced along the original stream.

    The class token of a local stream feeds nothing (attention reads the original stream): it is left out.
    """

    def __init__(self, path: ImagePath, backbone: Backbone) -> None:
        self.path = path
        self.mask = None if path.radius is None else near(backbone.grid, path.radius).to(backbone.device)
        self._tokens: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """[B, N, W] after the last block advanced over."""
        assert self._tokens is not None, "no block at or after first_block was seen"
        return self._tokens

    def advance(self, step: Step) -> None:
        """Add one block's local attention, if the block is at or after `first_block`."""
        if step.number < self.path.first_block:
            return
        if self._tokens is None:
            self._tokens = step.before[:, 1:]
        q, k, v = (step.v, step.v, step.v) if self.path.attention == "vv" else (step.q, step.k, step.v)
        if self.mask is not None:
            k, v = k[:, :, 1:], v[:, :, 1:]  # pure locality: the class token is no neighbour
        self._tokens = self._tokens + _attend(step.block, q[:, :, 1:], k, v, self.mask)


def near(grid: int, radius: int) -> Tensor:
    """Which patches see which: bool [N, N], True where max(|Δrow|, |Δcolumn|) ≤ radius."""
    place = torch.arange(grid * grid)
    rows, columns = place // grid, place % grid
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return apart <= radius


def _split(block: Any, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, L, W/H] of a block for its normalised input z [B, L, W]."""
    batch, length, width = z.shape
    attention = block.attn
    qkv = F.linear(z, attention.in_proj_weight, attention.in_proj_bias)
    heads = attention.num_heads
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    return q, k, v


def _attend(block: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """What a block's attention adds: softmax(q·k / √(W/H)) v, heads joined, out_proj, LayerScale."""
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    joined = mixed.transpose(1, 2).flatten(2)
    added: Tensor = block.ls_1(block.attn.out_proj(joined))
    return added
