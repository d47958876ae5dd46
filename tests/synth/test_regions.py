"""Regions stay inside the object, have the asked area, and differ."""

import numpy as np

from flawline.synth.regions import LEAST_SHARE, feathered, patch, scratch, whole_object


def draw(inside: np.ndarray, share: float, count: int = 40) -> list:
    rng = np.random.default_rng(3)
    return [region for _ in range(count) if (region := patch(inside, share, rng)) is not None]


def test_patches_stay_inside_and_have_about_the_area(disc: tuple[np.ndarray, np.ndarray]) -> None:
    inside = disc[1]
    regions = draw(inside, 0.1)
    assert len(regions) > 25
    for region in regions:
        assert not (region.mask & ~inside).any()
        assert region.mask.sum() >= LEAST_SHARE["patch"] * inside.size
        assert 0.02 * inside.sum() < region.mask.sum() < 0.125 * inside.sum()
    assert 0.05 < np.mean([region.mask.sum() for region in regions]) / inside.sum() < 0.11
    assert {"blob", "ellipse", "box"} <= {region.kind for region in regions}
    assert len({region.mask.tobytes() for region in regions}) == len(regions)


def test_too_small_is_refused(disc: tuple[np.ndarray, np.ndarray]) -> None:
    assert draw(disc[1], 0.001) == []


def test_scratches_are_thin_lines_inside(disc: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(5)
    inside = disc[1]
    found = [region for _ in range(40) if (region := scratch(inside, rng)) is not None]
    assert len(found) > 20
    for region in found:
        assert not (region.mask & ~inside).any()
        depth = region.mask.copy()
        for _ in range(4):  # no point of a line survives four erosions
            depth = depth & np.roll(depth, 1, 0) & np.roll(depth, -1, 0) & np.roll(depth, 1, 1)
        assert not depth.any()


def test_coverage_is_zero_outside_and_rises_inwards(disc: tuple[np.ndarray, np.ndarray]) -> None:
    mask = disc[1]
    cover = feathered(mask, 3.0)
    assert not cover[~mask].any() and cover[mask].min() > 0
    assert cover[62, 80] == 1.0 and cover.dtype == np.float32
    assert (cover[62, 41:45] < 1.0).any()
    everything = feathered(np.ones((10, 10), dtype=bool), 3.0)
    assert (everything == 1.0).all() or everything.min() >= 0.5  # the picture's edge is no edge of the shape


def test_whole_object_is_the_object(disc: tuple[np.ndarray, np.ndarray]) -> None:
    region = whole_object(disc[1])
    assert np.array_equal(region.mask, disc[1]) and region.kind == "object"
