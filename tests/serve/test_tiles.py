"""Tiles: weights that sum to one, maps in register with the picture, and a small defect that is found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flawline.clip.backbone import load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.prompts import method_class, method_options
from flawline.render.samples import SETS, draw_flawed, draw_good
from flawline.serve.tiles import Tiling
from flawline.settings import BackboneSettings, ImagePath

COUNTS = [2, 3, 5, 8]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("side", [64, 70, 240])
def test_weights_sum_to_one(count: int, side: int) -> None:
    tiling = Tiling(count, side)
    assert tiling.weights.shape == (count, tiling.map_side)
    assert np.allclose(tiling.weights.sum(0), 1, atol=1e-6) and tiling.weights.min() >= 0
    assert tiling.views == 1 + count**2


@pytest.mark.parametrize("count", COUNTS)
def test_equal_maps_blend_into_the_same(count: int) -> None:
    tiling = Tiling(count, 32)
    blended = tiling.blend(torch.full((tiling.views, 3, 32, 32), 0.25))
    assert blended.shape == (3, tiling.map_side, tiling.map_side)
    assert torch.allclose(blended, torch.tensor(0.25), atol=1e-6)


@pytest.mark.parametrize("size", [(400, 400), (640, 310), (96, 500)])
@pytest.mark.parametrize("count", [2, 3])
def test_views_put_back_are_the_picture(size: tuple[int, int], count: int) -> None:
    """Views blended as if they were maps give the picture itself: nothing is shifted, mirrored or swapped."""
    tiling = Tiling(count, 64)
    wide, high = size
    y, x = np.mgrid[0:high, 0:wide]
    values = 100 + 80 * np.sin(3 * x / wide) * np.cos(2 * y / high) + 60 * (x / wide)
    picture = Image.fromarray(np.stack([values.clip(0, 255)] * 3, -1).astype(np.uint8))
    views = torch.from_numpy(np.stack([np.asarray(v, np.float32)[..., 0] for v in tiling.split(picture)]))
    side = tiling.map_side
    wanted = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)[..., 0]
    found = tiling.blend(views).numpy()
    assert abs(found - wanted).max() < 3  # of 255; a shift by one pixel of the map is up to 4 at its steepest
    assert abs(found - wanted).mean() < 0.6
    tiled = (
        2 * found
        - torch.nn.functional.interpolate(views[None, :1], (side, side), mode="bilinear")[0, 0].numpy()
    )
    assert abs(tiled - wanted).mean() < 0.6


def test_one_tile_is_the_whole_picture() -> None:
    tiling = Tiling(1, 64)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8))
    [view] = tiling.split(picture)
    assert view.tobytes() == picture.resize((64, 64), Image.Resampling.BICUBIC).tobytes()
    assert tiling.map_side == 64 and tiling.views == 1
    maps = torch.rand(1, 64, 64)
    assert torch.equal(tiling.blend(maps), maps[0])


@pytest.mark.parametrize("count", [0, -1, 9])
def test_impossible_numbers_are_refused(count: int) -> None:
    with pytest.raises(FlawlineError, match=f"tiles: {count}"):
        Tiling(count, 64)


def test_a_small_defect_in_a_large_picture_is_found(repository: Path, tmp_path: Path) -> None:
    """One rusty panel among 36: squashed, neither score nor map tells; tiles tell, and say where."""
    from dvc.api import DVCFileSystem

    weights = (
        tmp_path / "flawline-tiny.safetensors"
    )  # from the samples' remote: a fresh clone has pulled nothing yet
    DVCFileSystem(str(repository)).get_file("backbones/flawline-tiny.safetensors", str(weights))
    backbone = load_backbone(BackboneSettings(name="flawline-tiny", weights=str(weights)), repository)
    options = method_options("words", {"image_path": "laa", "temperature": 0.03, "smoothing": 6.0})
    path = ImagePath(attention="vv", first_block=1, levels=[5], radius=2)
    paths = resolve_paths(backbone, {"main": path})
    detector = Detector(method_class("words")(backbone, options, 0), paths, {"threshold": {"value": 0.5}})
    panel = SETS["boards"]["coated_panel"]
    cells = [draw_good(panel, seed).picture for seed in range(10, 14)]
    good = np.concatenate([np.concatenate([cells[(3 * r + c) % 4] for c in range(6)], 1) for r in range(6)])
    side, row, column = len(cells[0]), 2, 4
    bad = good.copy()
    bad[row * side : (row + 1) * side, column * side : (column + 1) * side] = draw_flawed(panel, "rust", 1)[0]
    pictures = [Image.fromarray(np.uint8(255 * one.clip(0, 1))) for one in (good, bad)]
    plain_good, plain_bad = detector.score(pictures)
    assert plain_bad.score - plain_good.score < 0.2 and not plain_bad.is_anomalous
    assert (plain_bad.map - plain_good.map).max() < 0.05
    tiled_good, tiled_bad = detector.score(pictures, tiles=4)
    assert tiled_bad.score - tiled_good.score > 0.3 and tiled_bad.is_anomalous and not tiled_good.is_anomalous
    gap = tiled_bad.map - tiled_good.map
    assert gap.max() > 0.1
    down, across = np.array(np.unravel_index(gap.argmax(), gap.shape)) / len(gap) * 6
    assert (int(down), int(across)) == (row, column)
