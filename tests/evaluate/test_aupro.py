import numpy as np
import pytest
from scipy import ndimage

from flawline.evaluate.aupro import aupro, cut, thin
from flawline.evaluate.ranking import rank_pixels, region_share


def slow_aupro(maps, masks, limit):
    """Every distinct score is a threshold; every region is looked at on its own."""
    regions = []
    for number, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(number, labels == k) for k in range(1, count + 1)]
    fpr, pro = [0.0], [0.0]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        called = maps >= threshold
        fpr.append(float(np.mean(called[~masks])))
        pro.append(float(np.mean([np.mean(called[number][where]) for number, where in regions])))
    area = 0.0
    for i in range(1, len(fpr)):
        if fpr[i - 1] >= limit:
            break
        right, height = fpr[i], pro[i]
        if right > limit:
            height = pro[i - 1] + (limit - fpr[i - 1]) / (right - fpr[i - 1]) * (pro[i] - pro[i - 1])
            right = limit
        area += (right - fpr[i - 1]) * (pro[i - 1] + height) / 2
    return area / limit


def value(maps, masks, limit=0.3):
    return aupro(rank_pixels(maps, masks), limit).value


@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_equals_the_slow_one(decimals, limit):
    random = np.random.default_rng(decimals)
    masks = ndimage.uniform_filter(random.random((4, 20, 20)), (0, 3, 3)) > 0.62
    masks[1] = False
    maps = np.round(random.normal(masks, 1.0), decimals).astype(np.float32)
    assert value(maps, masks, limit) == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize("case", ["smooth", "weak", "ties", "outlier"])
def test_golden(golden, case):
    tensors, values = golden
    found = value(tensors[f"in.maps_{case}"], tensors["in.masks"].astype(bool))
    assert found == pytest.approx(values[case]["aupro_exact"], abs=1e-9)


def test_golden_regions_are_8_connected(golden):
    tensors, values = golden
    ranking = rank_pixels(tensors["in.maps_smooth"], tensors["in.masks"].astype(bool))
    assert ranking.regions == values["smooth"]["regions"]


@pytest.mark.parametrize("seed", range(10))
def test_stays_between_0_and_1(seed):
    random = np.random.default_rng(seed)
    masks = random.random((3, 12, 12)) < 0.2
    maps = np.round(random.normal(random.normal() * masks, 1), 1).astype(np.float32)
    found = aupro(rank_pixels(maps, masks), 0.3)
    assert 0 <= found.value <= 1
    assert np.all(np.diff(found.fpr) >= 0) and np.all(np.diff(found.pro) >= 0)
    assert found.fpr[0] == 0 and found.fpr[-1] == pytest.approx(0.3)


def test_perfect_map_has_one_and_inverted_map_zero():
    mask = np.zeros((1, 10, 10), dtype=bool)
    mask[0, 2:5, 2:5] = True
    assert value(mask.astype(np.float32), mask) == pytest.approx(1)
    assert value(-mask.astype(np.float32), mask) == pytest.approx(0)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, :10, :10], mask[0, 15, 15] = True, True
    only_large, only_small = np.zeros((2, 1, 20, 20), dtype=np.float32)
    only_large[0, :10, :10], only_small[0, 15, 15] = 1, 1
    assert value(only_large, mask) == pytest.approx(value(only_small, mask))


def test_good_images_count_as_alarms():
    mask = np.zeros((2, 10, 10), dtype=bool)
    mask[0, 2:5, 2:5] = True
    maps = mask.astype(np.float32)
    calm = value(maps, mask)
    maps[1, :5] = 2
    assert value(maps, mask) < calm


def test_without_defects_there_is_none():
    assert aupro(rank_pixels(np.ones((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool)), 0.3) is None


def test_share_sums_to_one_a_region():
    mask = np.asarray([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=bool)
    share, count = region_share(mask)
    assert count == 2
    assert share[0, 0] == share[1, 1] == share[0, 3] == 0.5
    assert share.sum() == 2


def test_cut_interpolates():
    x, y = cut(np.asarray([0.0, 0.2, 0.6]), np.asarray([0.0, 0.5, 0.9]), 0.3)
    assert x.tolist() == [0, 0.2, 0.3] and y == pytest.approx([0, 0.5, 0.6])


def test_thin_keeps_the_ends_and_the_number():
    x = np.linspace(0, 1, 5000)
    short_x, short_y = thin(x, x**0.1)
    assert len(short_x) <= 100 and len(short_x) == len(short_y)
    assert (short_x[0], short_x[-1], short_y[0], short_y[-1]) == (0, 1, 0, 1)
    assert short_x == sorted(short_x)
    # The steep start is drawn as densely as the flat end.
    assert np.interp(0.001, short_x, short_y) == pytest.approx(0.001**0.1, abs=0.02)
