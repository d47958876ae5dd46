import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc

from flawline.evaluate.aupro import aupro
from flawline.evaluate.aupro_200 import aupro_200, papers_area, papers_points, papers_thresholds
from flawline.evaluate.ranking import rank_pixels, region_shares

from .conftest import GOLDEN

CASES = ["smooth", "weak", "ties", "outlier"]


def slow(maps, masks, limit):
    """The published steps: a pass over all maps for every threshold, every region on its own."""
    regions = []
    for number, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(number, labels == k) for k in range(1, count + 1)]
    low, high = maps.min(), maps.max()
    fpr, pro = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        called = maps > threshold
        fpr.append(called[~masks].sum() / (~masks).sum())
        pro.append(np.mean([called[number][where].mean() for number, where in regions]))
    fpr, pro = np.asarray(fpr), np.asarray(pro)
    kept = fpr < limit
    fpr = (fpr[kept] - fpr[kept].min()) / (fpr[kept].max() - fpr[kept].min())
    return auc(fpr, pro[kept])


@pytest.mark.parametrize("decimals", [1, 7])
@pytest.mark.parametrize("limit", [0.1, 0.3])
def test_equals_the_slow_one(decimals, limit):
    random = np.random.default_rng(decimals)
    masks = ndimage.uniform_filter(random.random((4, 20, 20)), (0, 3, 3)) > 0.62
    masks[1] = False
    maps = np.round(random.normal(masks, 1.0), decimals).astype(np.float32)
    assert aupro_200(maps, masks, limit) == pytest.approx(slow(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_golden_value_and_points_of_the_released_routine(golden, case):
    recorded = json.loads((GOLDEN / "aupro_200.json").read_text(encoding="utf-8"))
    maps, masks = golden[0][f"in.maps_{case}"], golden[0]["in.masks"].astype(bool)
    assert aupro_200(maps, masks) == pytest.approx(recorded["aupro_200"][case], abs=1e-10)
    thresholds = papers_thresholds(maps.min(), maps.max())
    fpr, pro = papers_points(maps[~masks], maps[masks], *region_shares(masks), thresholds)
    assert len(thresholds) == 200
    assert fpr[::10] == pytest.approx(recorded["points"][case]["fpr"], abs=1e-6)
    assert pro[::10] == pytest.approx(recorded["points"][case]["pro"], abs=1e-6)


def test_one_outlier_moves_it_but_not_the_exact_value(golden):
    masks = golden[0]["in.masks"].astype(bool)
    smooth, outlier = golden[0]["in.maps_smooth"], golden[0]["in.maps_outlier"]
    assert aupro_200(smooth, masks) - aupro_200(outlier, masks) > 0.1
    exact = [aupro(rank_pixels(maps, masks), 0.3).value for maps in (smooth, outlier)]
    assert exact[0] == pytest.approx(exact[1], abs=1e-4)


@pytest.mark.parametrize("fill", [False, True])
def test_without_both_kinds_of_pixels_there_is_none(fill):
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    assert aupro_200(maps, np.full(maps.shape, fill)) is None


def test_equal_scores_have_no_thresholds():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:4, 2:4] = True
    assert aupro_200(np.ones((1, 8, 8), np.float32), mask) is None


def test_two_different_rates_below_the_limit_are_needed():
    assert papers_area(np.asarray([0.9, 0.5, 0.1]), np.asarray([1.0, 0.8, 0.5]), 0.3) is None
    assert papers_area(np.asarray([0.9, 0.2, 0.2]), np.asarray([1.0, 0.8, 0.5]), 0.3) is None
    assert papers_area(np.asarray([0.9, 0.2, 0.1]), np.asarray([1.0, 0.8, 0.4]), 0.3) == pytest.approx(0.6)
