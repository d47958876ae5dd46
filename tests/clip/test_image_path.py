"""The image path against open_clip, released code and a slow plain reference; its invariants."""

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image, near, resolve_paths, walk
from flawline.errors import FlawlineError
from flawline.settings import ImagePath

GOLDEN = Path(__file__).parent.parent / "golden"
SHAPES = ["tok", "avg", "avg-ln-after", "layerscale", "quickgelu", "own-text"]  # as in conftest.py

PATHS = {
    "plain": ImagePath(),
    "vv": ImagePath(attention="vv"),
    "laa": ImagePath(attention="vv", first_block=2, radius=1),
    "qk": ImagePath(attention="qk", first_block=4, radius=2),
    "qk_all": ImagePath(attention="qk", first_block=3),
}


def pictures(count: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def _both(
    backbone: Backbone, images: Tensor, paths: dict[str, ImagePath]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The image feature (the same in all paths) and the patches [B, N, D] of paths with one level."""
    read = encode_image(backbone, images, paths)
    return next(iter(read.values())).cls, {name: encoded.patches[:, 0] for name, encoded in read.items()}


def _patches(backbone: Backbone, images: Tensor, paths: dict[str, ImagePath]) -> dict[str, Tensor]:
    return _both(backbone, images, paths)[1]


def slow_patches(backbone: Backbone, images: Tensor, path: ImagePath) -> Tensor:
    """The obvious way: open_clip's own blocks for the original stream, loops for the local one."""
    visual = backbone.model.visual
    x = visual._embeds(images)
    local = x
    for number, block in enumerate(visual.transformer.resblocks, 1):
        if path.attention != "plain" and number >= path.first_block:
            if number == path.first_block:
                local = x
            local = local + block.ls_1(slow_attention(block, block.ln_1(x), path, backbone.grid))
        x = block(x)
    tokens = x if path.attention == "plain" else local
    return F.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)[:, 1:]


def slow_attention(block: Any, z: Tensor, path: ImagePath, grid: int) -> Tensor:
    width, heads = z.shape[-1], block.attn.num_heads
    q, k, v = F.linear(z, block.attn.in_proj_weight, block.attn.in_proj_bias).split(width, dim=-1)
    out = torch.zeros_like(z)
    size = width // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        a, b = (v, v) if path.attention == "vv" else (q, k)
        logits = a[..., part] @ b[..., part].transpose(1, 2) / size**0.5
        if path.radius is not None:
            logits[:, 1:, 0] = float("-inf")
            for i, j in product(range(grid * grid), repeat=2):
                if max(abs(i // grid - j // grid), abs(i % grid - j % grid)) > path.radius:
                    logits[:, 1 + i, 1 + j] = float("-inf")
        out[..., part] = logits.softmax(dim=-1) @ v[..., part]
    projected: Tensor = block.attn.out_proj(out)
    return projected


@pytest.mark.parametrize("shape", SHAPES)
def test_image_feature_is_open_clips(backbone_of: Callable[..., Backbone], shape: str) -> None:
    backbone = backbone_of(shape)
    cls = encode_image(backbone, pictures(), PATHS)["laa"].cls
    with torch.no_grad():
        want = backbone.model.encode_image(pictures(), normalize=True)
    assert cls.shape == (3, backbone.dim)
    assert torch.allclose(cls, want, atol=1e-5)


@pytest.mark.parametrize("shape", ["tok", "avg", "layerscale", "quickgelu"])
@pytest.mark.parametrize("name", PATHS)
def test_patches_equal_the_slow_reference(
    backbone_of: Callable[..., Backbone], shape: str, name: str
) -> None:
    backbone = backbone_of(shape)
    patches = _patches(backbone, pictures(), PATHS)
    with torch.no_grad():
        want = slow_patches(backbone, pictures(), PATHS[name])
    assert patches[name].shape == (3, 16, backbone.dim)
    assert torch.allclose(patches[name].norm(dim=-1), torch.ones(3, 16), atol=1e-5)
    assert torch.allclose(patches[name], want, atol=1e-5)


def test_released_code_gives_the_same_numbers(golden_backbone: Backbone) -> None:
    gold = load_file(GOLDEN / "clip_l14.safetensors")
    paths = {"plain": ImagePath(), "vv": ImagePath(attention="vv", first_block=6)}
    cls, patches = _both(golden_backbone, gold["in.images"], paths)
    assert relative(cls, F.normalize(gold["out.image_features_raw"], dim=-1)) < 1e-4
    assert relative(patches["plain"], F.normalize(gold["out.tokens_raw"][:, 1:], dim=-1)) < 1e-4
    assert relative(patches["vv"], gold["anomalyclip.patch_features"][:, 1:]) < 1e-4


def test_paths_that_differ_give_features_that_differ(backbone_of: Callable[..., Backbone]) -> None:
    patches = _patches(backbone_of("tok"), pictures(), PATHS)
    names = sorted(patches)
    for one, other in ((a, b) for a in names for b in names if a < b):
        assert (patches[one] - patches[other]).abs().max() > 1e-3, (one, other)


def test_no_radius_is_plain_vv_and_a_wide_radius_only_loses_the_class_token(
    backbone_of: Callable[..., Backbone],
) -> None:
    """radius null = V-V over all tokens; radius ≥ grid - 1 = V-V over all patches without the class token."""
    backbone = backbone_of("tok")
    paths = {
        "vv": ImagePath(attention="vv", first_block=2),
        "null": ImagePath(attention="vv", first_block=2, radius=None),
        "exact": ImagePath(attention="vv", first_block=2, radius=backbone.grid - 1),
        "wide": ImagePath(attention="vv", first_block=2, radius=100),
        "narrow": ImagePath(attention="vv", first_block=2, radius=backbone.grid - 2),
    }
    patches = _patches(backbone, pictures(), paths)
    assert torch.equal(patches["null"], patches["vv"])
    assert torch.equal(patches["wide"], patches["exact"])
    assert (patches["narrow"] - patches["exact"]).abs().max() > 1e-4
    assert (patches["exact"] - patches["vv"]).abs().max() > 1e-4
    first = torch.zeros(0)
    without_class = []
    for step in walk(backbone, pictures()):  # the same by hand: softmax over patches alone
        if step.number >= 2:
            v = step.v[:, :, 1:]
            mixed = (v @ v.transpose(-1, -2) / v.shape[-1] ** 0.5).softmax(dim=-1) @ v
            without_class.append(step.block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
            first = step.before[:, 1:] if step.number == 2 else first
    tokens = first + sum(without_class)
    want = F.normalize(backbone.visual.ln_post(tokens) @ backbone.visual.proj, dim=-1)
    assert torch.allclose(patches["wide"], want, atol=1e-5)


def test_radius_0_sees_only_itself(backbone_of: Callable[..., Backbone]) -> None:
    """In a first block at radius 0, V-V and Q-K agree: softmax over one token is 1 either way."""
    backbone = backbone_of("tok")
    paths = {
        "vv": ImagePath(attention="vv", first_block=1, radius=0),
        "qk": ImagePath(attention="qk", first_block=1, radius=0),
    }
    patches = _patches(backbone, pictures(), paths)
    assert torch.allclose(patches["vv"], patches["qk"], atol=1e-5)


def test_locality_stops_what_is_far_away(backbone_of: Callable[..., Backbone]) -> None:
    """In a one-block local path from block 1, a change in one patch reaches exactly its neighbours."""
    backbone = backbone_of("tok")
    backbone.model.visual.transformer.resblocks = backbone.model.visual.transformer.resblocks[:1]
    backbone.vision_layers = 1
    changed = pictures()
    changed[:, :, 0:8, 0:8] += 1.0  # patch 0 alone
    paths = {"laa": ImagePath(attention="vv", radius=1)}
    before, after = (_patches(backbone, images, paths)["laa"] for images in (pictures(), changed))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-7
    assert moved.tolist() == near(backbone.grid, 1)[0].tolist()


def test_near_counts_neighbours() -> None:
    mask = near(5, 1)
    assert mask.sum(dim=1).reshape(5, 5)[0].tolist() == [4, 6, 6, 6, 4]
    assert int(mask[12].sum()) == 9 and torch.equal(mask, mask.T)
    assert torch.equal(near(5, 0), torch.eye(25, dtype=torch.bool))


def test_features_do_not_depend_on_batch_size_or_order(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("avg")
    images = pictures(7)
    cls, patches = _both(backbone, images, PATHS)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    shuffled_cls, shuffled = _both(backbone, images[order], PATHS)
    assert torch.allclose(shuffled_cls, cls[order], atol=1e-5)
    for row in range(7):
        one_cls, one = _both(backbone, images[row : row + 1], PATHS)
        assert torch.allclose(one_cls[0], cls[row], atol=1e-5)
        for name in PATHS:
            assert torch.allclose(one[name][0], patches[name][row], atol=1e-5)
            assert torch.allclose(shuffled[name], patches[name][order], atol=1e-5)


def test_one_pass_for_several_paths_equals_one_pass_each(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    together = _patches(backbone, pictures(), PATHS)
    for name, path in PATHS.items():
        alone = _patches(backbone, pictures(), {name: path})
        assert torch.equal(alone[name], together[name])


def test_encoding_changes_nothing_and_needs_no_gradient(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    images = pictures()
    cls, patches = _both(backbone, images, PATHS)
    assert not cls.requires_grad and not any(p.requires_grad for p in patches.values())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert torch.equal(images, pictures())


def test_tapped_levels_differ(backbone_of: Callable[..., Backbone]) -> None:
    """The in-place bug of released code: all tapped maps are the last one."""
    taps = [step.after.clone() for step in walk(backbone_of("tok"), pictures())]
    kept = [step.after for step in walk(backbone_of("tok"), pictures())]
    assert [torch.equal(a, b) for a, b in zip(taps, kept, strict=True)] == [True] * 4
    for one, other in pairwise(kept):
        assert (one - other).abs().max() > 1e-3


def test_a_block_that_is_not_there_is_named(tiny: Backbone) -> None:
    paths = {"late": ImagePath(attention="vv", first_block=tiny.vision_layers + 1)}
    with pytest.raises(FlawlineError, match=r"features\.paths\.late\.first_block"):
        encode_image(tiny, pictures(1, tiny.image_size), paths)


def test_levels_are_what_the_stream_was_at_each_block(backbone_of: Callable[..., Backbone]) -> None:
    """Several levels of one path equal paths that stop there; a share of the depth is the block it means."""
    backbone = backbone_of("tok")  # 4 blocks
    paths = {
        "all": ImagePath(attention="vv", first_block=2, levels=[2, 0.75, 1.0]),
        "two": ImagePath(attention="vv", first_block=2, levels=[2]),
        "three": ImagePath(attention="vv", first_block=0.5, levels=[3]),
        "four": ImagePath(attention="vv", first_block=2),
        "tower": ImagePath(levels=[1, 3], space="tower"),
    }
    read = encode_image(backbone, pictures(), paths)
    for row, name in enumerate(("two", "three", "four")):
        assert torch.equal(read["all"].patches[:, row], read[name].patches[:, 0])
    steps = [step.after for step in walk(backbone, pictures())]
    for row, block in enumerate((1, 3)):
        want = F.normalize(steps[block - 1][:, 1:], dim=-1)
        assert torch.equal(read["tower"].patches[:, row], want)
    assert resolve_paths(backbone, paths)["all"].levels == [2, 3, 4]


@pytest.mark.parametrize("shape", ["tok", "avg"])
def test_image_feature_without_the_final_norm(backbone_of: Callable[..., Backbone], shape: str) -> None:
    backbone = backbone_of(shape)
    read = encode_image(backbone, pictures(), {"with": ImagePath(), "without": ImagePath(image_norm=False)})
    *_, last = walk(backbone, pictures())
    pooled = last.after[:, 0] if shape == "tok" else last.after[:, 1:].mean(1)
    want = F.normalize(pooled @ backbone.visual.proj, dim=-1)
    assert torch.allclose(read["without"].cls, want, atol=1e-6)
    assert (read["with"].cls - want).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (ImagePath(levels=[9]), r"late\.levels: 9, but"),
        (ImagePath(levels=[3, 0.75]), r"late\.levels: .* are blocks \[3, 3\] of 4"),
        (ImagePath(levels=[3, 2]), r"name each block once, in order"),
        (ImagePath(attention="vv", first_block=3, levels=[2]), r"block 2 comes before first_block 3"),
    ],
)
def test_levels_that_cannot_be_read_are_named(
    backbone_of: Callable[..., Backbone], path: ImagePath, told: str
) -> None:
    with pytest.raises(FlawlineError, match=told):
        encode_image(backbone_of("tok"), pictures(), {"late": path})


@pytest.mark.parametrize("shape", SHAPES)
def test_the_class_token_alone_is_the_whole_blocks(backbone_of: Callable[..., Backbone], shape: str) -> None:
    for step in walk(backbone_of(shape), pictures()):
        assert torch.allclose(step.class_token(), step.after[:, :1], atol=1e-5)


def test_a_walk_ends_where_it_is_told(backbone_of: Callable[..., Backbone]) -> None:
    backbone = backbone_of("tok")
    for depth, numbers in ((None, [1, 2, 3, 4]), (2, [1, 2]), (0, [])):
        assert [step.number for step in walk(backbone, pictures(), depth)] == numbers


@pytest.mark.parametrize("shape", ["tok", "avg"])
def test_what_is_left_out_changes_nothing_else(backbone_of: Callable[..., Backbone], shape: str) -> None:
    """Without image features, without patches, or with a narrow last block (never where patches are pooled)."""
    backbone = backbone_of(shape)
    paths = {"laa": PATHS["laa"], "early": ImagePath(attention="vv", levels=[1, 2])}
    full = encode_image(backbone, pictures(), paths)
    no_cls = encode_image(backbone, pictures(), paths, cls=False)
    no_patches = encode_image(backbone, pictures(), paths, patches=False)
    narrow = encode_image(backbone, pictures(), paths, narrow=True)
    for name, wanted in full.items():
        assert torch.equal(no_cls[name].patches, wanted.patches) and no_cls[name].cls.shape == (3, 0)
        assert torch.equal(no_patches[name].cls, wanted.cls)
        assert no_patches[name].patches.shape == (3, 0, 0, 0)
        assert torch.allclose(narrow[name].cls, wanted.cls, atol=1e-5)
        assert torch.equal(narrow[name].patches, wanted.patches)
    plain = {"p": ImagePath()}
    wide = encode_image(backbone, pictures(), plain)["p"]
    assert torch.equal(encode_image(backbone, pictures(), plain, narrow=True)["p"].cls, wide.cls)
