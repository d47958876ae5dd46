"""The accumulators against the exact functions, which have plain references of their own."""

import numpy as np
import pytest
from scipy import ndimage

from flawline.errors import FlawlineError
from flawline.evaluate.aupro import aupro
from flawline.evaluate.aupro_200 import aupro_200
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.streaming import PixelAccumulator

SIDE, COUNT = 96, 12


@pytest.fixture(scope="module")
def made():
    """Smooth noise of unit spread, higher on defects; a third of the images are good."""
    random = np.random.default_rng(0)
    masks = np.zeros((COUNT, SIDE, SIDE), bool)
    for number in range(COUNT):
        for _ in range(number % 3):
            top, left = random.integers(0, SIDE - 24, 2)
            masks[number, top : top + random.integers(2, 24), left : left + random.integers(2, 24)] = True
    noise = ndimage.gaussian_filter(random.normal(size=masks.shape), (0, 2, 2))
    return (noise / noise.std() + masks).astype(np.float32), masks


SHAPES = {
    "any numbers": lambda x: x,
    "probabilities": lambda x: 1 / (1 + np.exp(-x)),
    "saturated": lambda x: 1 / (1 + np.exp(-8 * x)),
    "close to one": lambda x: 1 - np.exp(-2 * x - 10),
    "close to zero": lambda x: np.exp(4 * x - 30),
    "narrow": lambda x: 0.5 + 1e-5 * x,
    "narrower": lambda x: 0.7 + 3e-7 * x,
    "ties": lambda x: np.round(4 * x) / 40,
    "many ties": lambda x: np.round(100 * x) / 1000,
    "clipped": lambda x: np.clip(x, -0.5, 1),
    "cut at zero": lambda x: np.maximum(x, 0),
    "outlier": lambda x: np.where(x == x.max(), 1, 0.02 * x),
    "large": lambda x: 1e6 * x,
}


def exact(maps, masks, limit=0.3):
    ranking = rank_pixels(maps, masks)
    values = pixel_metrics(ranking) | {"aupro": aupro(ranking, limit).value}
    papers = aupro_200(maps, masks, limit)
    return values if papers is None else values | {"aupro_200": papers}


def streamed(maps, masks, held=0, batch=5):
    pixels = PixelAccumulator(exact=held)
    for start in range(0, len(maps), batch):
        pixels.update(maps[start : start + batch], masks[start : start + batch])
    return pixels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_within_1e_4_of_exact_whatever_the_scores_look_like(made, shape, limit):
    maps, masks = SHAPES[shape](made[0]).astype(np.float32), made[1]
    pixels, wanted = streamed(maps, masks), exact(maps, masks, limit)
    found = pixels.metrics(limit)
    assert set(found) == set(wanted)
    assert found == pytest.approx(wanted, abs=1e-4)
    curve, plain = pixels.aupro(limit), aupro(rank_pixels(maps, masks), limit)
    at = np.linspace(0, limit, 50)
    assert np.interp(at, curve.fpr, curve.pro) == pytest.approx(np.interp(at, plain.fpr, plain.pro), abs=5e-3)


@pytest.mark.parametrize("shape", ["ties", "many ties", "narrow", "close to one"])
def test_ties_and_narrow_ranges_lose_nothing(made, shape):
    maps, masks = SHAPES[shape](made[0]).astype(np.float32), made[1]
    assert streamed(maps, masks).metrics() == pytest.approx(exact(maps, masks), abs=1e-9)


def test_small_sets_are_exact(made):
    pixels = streamed(*made, held=1 << 20)
    assert pixels.bins is None and pixels.auroc_bound() == 0
    assert pixels.metrics() == pytest.approx(exact(*made), abs=1e-12)


@pytest.mark.parametrize("case", ["smooth", "weak", "ties", "outlier"])
@pytest.mark.parametrize("held", [0, 1 << 20])
def test_golden(golden, case, held):
    tensors, values = golden
    found = streamed(tensors[f"in.maps_{case}"], tensors["in.masks"].astype(bool), held).metrics()
    wanted = values[case]
    assert found["pixel_auroc"] == pytest.approx(wanted["pixel_auroc"], abs=1e-5)
    assert found["pixel_ap"] == pytest.approx(wanted["pixel_ap"], abs=1e-4)
    assert found["pixel_f1_max"] == pytest.approx(wanted["pixel_f1max"], abs=1e-5)
    assert found["aupro"] == pytest.approx(wanted["aupro_exact"], abs=1e-5)


@pytest.mark.parametrize("held", [0, 40_000, 1 << 20])
@pytest.mark.parametrize("shape", ["any numbers", "narrow", "saturated"])
def test_neither_order_nor_batches_nor_workers_matter(made, shape, held):
    maps, masks = SHAPES[shape](made[0]).astype(np.float32), made[1]
    once = streamed(maps, masks, held, batch=COUNT).metrics()
    order = np.random.default_rng(1).permutation(COUNT)
    assert streamed(maps[order], masks[order], held, batch=1).metrics() == pytest.approx(once, abs=1e-12)
    parts = [streamed(maps[rows], masks[rows], held, 2) for rows in np.array_split(order, 4)]
    before = parts[1].metrics(), parts[1].images
    together = PixelAccumulator(exact=held)
    for part in parts:
        together.merge(part)
    assert together.images == COUNT
    assert together.metrics() == pytest.approx(once, abs=1e-12)
    assert (parts[1].metrics(), parts[1].images) == before


def test_memory_does_not_grow_with_the_images(made):
    maps, masks = made
    pixels = PixelAccumulator(exact=100_000)
    sizes = []
    random = np.random.default_rng(0)
    for _ in range(6):
        noise = random.normal(0, 0.1, maps.shape).astype(np.float32)
        pixels.update(maps + noise, masks)
        held = pixels.bins
        sizes.append(
            sum(array.nbytes for array in (held.normal, held.anomalous, held.overlap, held.low, held.high))
        )
        assert not pixels._held
    assert max(sizes) <= 36 * held.limit
    assert pixels.images == 6 * COUNT


def test_the_bound_tells_where_bins_are_too_wide(made):
    maps, masks = made
    smooth = streamed(maps, masks)
    assert 0 < smooth.auroc_bound() < 1e-4
    random = np.random.default_rng(0)
    # Most scores within a few float32 steps, the others all over: the one shape that the bins do not resolve.
    bad = np.where(random.random(maps.shape) < 0.1, random.random(maps.shape), 0.5 + 1e-6 * maps).astype(
        np.float32
    )
    crowded = streamed(bad, masks)
    error = abs(crowded.metrics()["pixel_auroc"] - exact(bad, masks)["pixel_auroc"])
    assert error > 1e-4 and crowded.auroc_bound() >= error


@pytest.mark.parametrize("held", [0, 1 << 20])
@pytest.mark.parametrize("fill", [False, True])
def test_one_kind_of_pixels_is_absent(held, fill):
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    pixels = streamed(maps, np.full(maps.shape, fill), held)
    assert pixels.metrics() == {} and pixels.ranking() is None and pixels.aupro_200() is None


def test_nothing_seen():
    pixels = PixelAccumulator()
    pixels.update(np.zeros((0, 8, 8), np.float32), np.zeros((0, 8, 8), bool))
    assert pixels.metrics() == {} and pixels.images == 0
    assert PixelAccumulator().merge(pixels).metrics() == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(made, value):
    maps = made[0].copy()
    maps[2, 3, 4] = value
    with pytest.raises(FlawlineError, match="not a finite number"):
        PixelAccumulator().update(maps, made[1])


def test_what_does_not_fit_is_refused(made):
    with pytest.raises(ValueError, match="belong together"):
        PixelAccumulator().update(made[0], made[1][:2])
    with pytest.raises(ValueError, match="cannot be merged"):
        PixelAccumulator(exact=0).merge(PixelAccumulator())


def test_inputs_stay_as_they_are(made):
    maps, masks = made[0].copy(), made[1].copy()
    streamed(maps, masks, held=1 << 20).metrics()
    assert np.array_equal(maps, made[0]) and np.array_equal(masks, made[1])
