"""Object masks: from colours, from similarity maps, and every way to fall back."""

import numpy as np
import pytest
import torch

from flawline.synth.object_mask import (
    from_border_colour,
    from_similarity,
    object_mask,
    plausible,
    similarity_maps,
)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def grid_of(where: np.ndarray, grid: int = 16) -> np.ndarray:
    """A perfect similarity map of an object: its share of each cell."""
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(where[None].astype(np.float32)), grid)
    return small[0].numpy() * 0.1 + 0.2


def test_colours_find_the_object(disc: tuple[np.ndarray, np.ndarray]) -> None:
    picture, where = disc
    assert overlap(from_border_colour(picture), where) > 0.9
    assert object_mask(picture, None, "otsu").source == "otsu"


def test_similarity_finds_the_object(disc: tuple[np.ndarray, np.ndarray]) -> None:
    _, where = disc
    found = from_similarity(grid_of(where), where.shape)
    assert found.shape == where.shape and overlap(found, where) > 0.8


def test_clip_and_colours_agree_and_the_outline_is_the_finer(disc: tuple[np.ndarray, np.ndarray]) -> None:
    picture, where = disc
    found = object_mask(picture, grid_of(where), "clip")
    assert found.source == "clip+otsu" and overlap(found.mask, where) > 0.9


def test_where_they_disagree_the_colours_win(disc: tuple[np.ndarray, np.ndarray]) -> None:
    picture, where = disc
    corner = np.zeros_like(where)
    corner[10:40, 10:40] = True
    found = object_mask(picture, grid_of(corner), "clip")
    assert found.source == "otsu" and overlap(found.mask, where) > 0.9


def test_clip_alone_where_colours_show_nothing(texture: np.ndarray) -> None:
    where = np.zeros(texture.shape[:2], dtype=bool)
    where[40:90, 30:100] = True
    found = object_mask(texture, grid_of(where), "clip")
    assert found.source == "clip" and overlap(found.mask, where) > 0.7


def test_textures_are_whole(texture: np.ndarray, plain: np.ndarray) -> None:
    for picture in (texture, plain):
        flat = np.full((16, 16), 0.2, dtype=np.float32)
        for similarity in (None, flat):
            found = object_mask(picture, similarity, "clip")
            assert found.source == "whole" and found.mask.all()


def test_whole_asks_nobody(disc: tuple[np.ndarray, np.ndarray]) -> None:
    found = object_mask(disc[0], grid_of(disc[1]), "whole")
    assert found.source == "whole" and found.mask.all()


@pytest.mark.parametrize(
    ("share", "good"), [(0.0, False), (0.01, False), (0.1, True), (0.6, True), (1.0, False)]
)
def test_plausible_sizes(share: float, good: bool) -> None:
    side = int(100 * share**0.5)
    mask = np.zeros((100, 100), dtype=bool)
    start = (100 - side) // 2
    mask[start : start + side, start : start + side] = True
    assert plausible(mask) is good


def test_a_mask_that_hugs_the_border_is_the_background() -> None:
    mask = np.ones((100, 100), dtype=bool)
    mask[30:70, 30:70] = False
    assert not plausible(mask) and plausible(~mask)


def test_specks_are_dropped_and_holes_filled(disc: tuple[np.ndarray, np.ndarray]) -> None:
    picture, where = disc
    marked = picture.copy()
    marked[5:9, 5:9] = 1.0  # 16 pixels, below 1 %
    marked[60:64, 78:82] = picture[0, 0]  # a hole in the object
    found = from_border_colour(marked)
    assert not found[:12, :12].any() and found[62, 80]
    assert overlap(found, where) > 0.9


def test_similarity_maps_have_raster_order() -> None:
    patches = torch.arange(9.0).reshape(1, 9, 1)
    maps = similarity_maps(patches, torch.tensor([2.0]), 3)
    assert maps.dtype == np.float32
    assert maps[0].tolist() == [[0, 2, 4], [6, 8, 10], [12, 14, 16]]
