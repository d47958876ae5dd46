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
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.products import frozen_linear, mlp
from flawline.errors import FlawlineError
from flawline.settings import ImagePath

_PROJECTED_ROWS = 32


@dataclass(frozen=True)
class Step:
    """What one block of the original stream saw and made; `number` counts from 1."""

    number: int
    block: Any
    before: Tensor  # [B, L, W] input of the block
    q: Tensor  # [B, H, L, W/H] from LN1(before), as are k and v
    k: Tensor
    v: Tensor

    @cached_property
    def after(self) -> Tensor:
        """[B, L, W] output of the block; computed when it is asked for, so a last block may go without."""
        return self._output(self.before, self.q)

    def class_token(self) -> Tensor:
        """[B, 1, W]: the block's output for the class token alone, a fraction of the work; `after` up to rounding."""
        return self._output(self.before[:, :1], self.q[:, :, :1])

    def _output(self, x: Tensor, q: Tensor) -> Tensor:
        after = x + _attend(self.block, q, self.k, self.v)
        added: Tensor = after + self.block.ls_2(mlp(self.block, self.block.ln_2(after)))
        return added


class Encoded(NamedTuple):
    """What one image path reads from a batch; all L2-normalised.

    Attributes:
        cls: image features [B, D].
        patches: [B, levels, N, D], patches in raster order; W instead of D where the path's space is `tower`.
    """

    cls: Tensor
    patches: Tensor


@torch.no_grad()
def encode_image(
    backbone: Backbone,
    images: Tensor,
    paths: dict[str, ImagePath],
    *,
    cls: bool = True,
    patches: bool = True,
    narrow: bool = False,
) -> dict[str, Encoded]:
    """Image and patch features of a batch, in one pass of the original stream for all paths.

    Nothing is computed that no result needs: a local stream ends at its last level, the pass at the last one of all
    if no image feature is wanted.

    Args:
        backbone: the frozen CLIP.
        images: [B, 3, S, S] as `Backbone.preprocess` makes them.
        paths: how to read features, by name.
        cls: whether image features are wanted; without, they are empty: [B, 0].
        patches: whether patch features are wanted; without, they are empty: [B, 0, 0, 0].
        narrow: in the last block, compute the class token alone where nothing else is read from it. Equal up to
            rounding (shorter matrices are summed in another order), so no default.

    Returns:
        The features of each path. The image feature of a path with `image_norm` is open_clip's encode_image.

    Raises:
        FlawlineError: a path asks for a block that the backbone does not have.
    """
    return encode_resolved(backbone, images, resolve_paths(backbone, paths), cls, patches, narrow)


def encode_resolved(
    backbone: Backbone,
    images: Tensor,
    paths: dict[str, ImagePath],
    cls: bool = True,
    patches: bool = True,
    narrow: bool = False,
) -> dict[str, Encoded]:
    """`encode_image` for paths from `resolve_paths`, tensors alone: what torch.compile can take in one piece."""
    read: dict[str, list[Tensor]] = {name: [] for name in paths}
    wanted = paths if patches else {}
    streams = {
        name: LocalStream(path, backbone) for name, path in wanted.items() if path.attention != "plain"
    }
    depth = (
        backbone.vision_layers if cls else max((int(path.levels[-1]) for path in wanted.values()), default=0)
    )
    step = None
    for step in walk(backbone, images, depth):
        for name, path in wanted.items():
            if name in streams and step.number <= path.levels[-1]:
                streams[name].advance(step)
            if step.number in path.levels:
                tokens = streams[name].tokens if name in streams else step.after[:, 1:]
                read[name].append(read_patches(backbone, tokens, path.space))
    pooled: dict[bool, Tensor] = {}
    if cls:
        assert step is not None
        read_whole = any(name not in streams and step.number in path.levels for name, path in wanted.items())
        alone = narrow and not read_whole and backbone.visual.pool_type == "tok"
        last = step.class_token() if alone else step.after
        norms = {path.image_norm for path in paths.values()}
        pooled = {norm: image_feature(backbone, last, norm) for norm in norms}
    count = len(images)
    return {
        name: Encoded(
            pooled[path.image_norm] if cls else images.new_empty(count, 0),
            torch.stack(read[name], 1) if patches else images.new_empty(count, 0, 0, 0),
        )
        for name, path in paths.items()
    }


def image_feature(backbone: Backbone, tokens: Tensor, norm: bool = True) -> Tensor:
    """Last tokens [B, L, W] → image features [B, D], L2-normalised; without `norm` the final norm is left out."""
    visual = backbone.visual
    pooled = visual._pool(tokens)[0] if norm else visual._global_pool(tokens)[0]
    # With few rows the product is rounded differently: filled up, an image's feature does not depend on its batch.
    filled = F.pad(pooled, (0, 0, 0, -len(pooled) % _PROJECTED_ROWS))
    return F.normalize((filled @ visual.proj)[: len(pooled)], dim=-1)


def resolve_paths(backbone: Backbone, paths: dict[str, ImagePath]) -> dict[str, ImagePath]:
    """The same paths with every block as a number, so that equal readings compare equal.

    Raises:
        FlawlineError: a path asks for a block that the backbone does not have, or reads before it starts.
    """
    depth, model = backbone.vision_layers, backbone.settings.name
    return {name: resolve_path(name, path, depth, model) for name, path in paths.items()}


def resolve_path(name: str, path: ImagePath, depth: int, model: str) -> ImagePath:
    """`resolve_paths` for one path and a tower of `depth` blocks."""
    key = f"features.paths.{name}"
    first = block_number(path.first_block, depth)
    levels = [block_number(level, depth) for level in path.levels]
    for what, number in (("first_block", first), ("levels", max(levels))):
        if number > depth:
            raise FlawlineError(
                f"{key}.{what}: {number}, but {model} has {depth} blocks", f"give 1 to {depth}"
            )
    if levels != sorted(set(levels)):
        raise FlawlineError(
            f"{key}.levels: {path.levels} are blocks {levels} of {depth}", "name each block once, in order"
        )
    if path.attention != "plain" and levels[0] < first:
        raise FlawlineError(
            f"{key}.levels: block {levels[0]} comes before first_block {first}", "read the stream where it is"
        )
    return path.model_copy(update={"first_block": first, "levels": levels})


def block_number(block: int | float, depth: int) -> int:
    """A block counted from 1: an int as it is, a float as a share of the depth."""
    return block if isinstance(block, int) else max(1, round(block * depth))


def read_patches(backbone: Backbone, tokens: Tensor, space: str = "joint") -> Tensor:
    """Patch tokens [B, N, W] of any stream at any block → unit features [B, N, D], or [B, N, W] in `tower`."""
    if space == "joint":
        tokens = backbone.visual.ln_post(tokens) @ backbone.visual.proj
    return F.normalize(tokens, dim=-1)


def walk(backbone: Backbone, images: Tensor, depth: int | None = None) -> Iterator[Step]:
    """Run the original stream block by block, the first `depth` of them (None: all); tap a level by its number."""
    blocks = backbone.visual.transformer.resblocks[:depth]
    step = None
    x = backbone.visual._embeds(images.to(backbone.device)) if len(blocks) else images
    for number, block in enumerate(blocks, 1):
        x = x if step is None else step.after
        step = Step(number, block, x, *_split(block, block.ln_1(x)))
        yield step


class LocalStream:
    """The patch tokens of one dual path, advanced along the original stream.

    The class token of a local stream feeds nothing (attention reads the original stream): it is left out.
    """

    def __init__(self, path: ImagePath, backbone: Backbone) -> None:
        self.path = path
        self.first = block_number(path.first_block, backbone.vision_layers)
        self.mask = None if path.radius is None else near(backbone.grid, path.radius).to(backbone.device)
        self._tokens: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """[B, N, W] after the last block advanced over."""
        assert self._tokens is not None, "no block at or after first_block was seen"
        return self._tokens

    def advance(self, step: Step) -> None:
        """Add one block's local attention, if the block is at or after `first_block`."""
        if step.number < self.first:
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
    qkv = frozen_linear(z, attention.in_proj_weight, attention.in_proj_bias)
    heads = attention.num_heads
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    return q, k, v


def _attend(block: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """What a block's attention adds: softmax(q·k / √(W/H)) v, heads joined, out_proj, LayerScale."""
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    joined = mixed.transpose(1, 2).flatten(2)
    out = block.attn.out_proj
    added: Tensor = block.ls_1(frozen_linear(joined, out.weight, out.bias))
    return added
