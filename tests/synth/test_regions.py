"""Regions stay inside the object, have the asked area, and differ."""

import numpy as np

from flawline.synth.regions import (
    LEAST_SHARE,
    MOST_SHARE,
    blurred,
    feathered,
    oagm_object,
    oagm_region,
    patch,
    perlin,
    scratch,
    whole_object,
)


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


def test_a_patch_of_one_kind_is_of_that_kind(disc: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    for kind in ("blob", "ellipse", "box"):
        found = [patch(disc[1], 0.15, rng, (kind,)) for _ in range(6)]
        assert {region.kind for region in found if region is not None} == {kind}


def test_perlin_regions_stay_inside_and_in_their_limits(disc: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    found = [region for _ in range(40) if (region := perlin(disc[1], rng)) is not None]
    assert len(found) > 15
    for region in found:
        assert not (region.mask & ~disc[1]).any()
        assert LEAST_SHARE["perlin"] * disc[1].size <= region.mask.sum() <= MOST_SHARE * disc[1].size


def test_oagms_regions_are_part_of_the_object_or_all_of_it(disc: tuple[np.ndarray, np.ndarray]) -> None:
    inside = disc[1]
    assert np.array_equal(oagm_object(inside).mask, inside)
    rng = np.random.default_rng(4)
    found = [region for _ in range(60) if (region := oagm_region(inside, rng)) is not None]
    assert {region.kind for region in found} == {"perlin", "mixed"}
    for region in found:
        assert not (region.mask & ~inside).any() and region.mask.sum() >= LEAST_SHARE["oagm"] * inside.size
        if region.kind == "mixed":
            assert region.mask.sum() <= 0.21 * inside.sum()


def test_blurred_cover_is_a_three_pixel_blur_that_stays_inside() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 3:8] = True
    cover = blurred(mask)
    slow = np.array(
        [[mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].sum() / 9 for x in range(9)] for y in range(9)]
    )
    assert np.allclose(cover[1:8, 1:8], np.where(mask, slow, 0)[1:8, 1:8], atol=1e-6)
    assert cover[4, 5] == 1 and 0 < cover[2, 3] < cover[2, 5] < 1 and not cover[~mask].any()
    assert (blurred(np.ones((5, 5), dtype=bool)) == 1).all()
