import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flawline.errors import FlawlineError
from flawline.evaluate.bootstrap import (
    interval,
    paired_image_auroc,
    paired_pixel_auroc,
    resample,
    strata_of,
)
from flawline.evaluate.histograms import PixelHistograms, pixel_histograms, quantile_edges


def images(n=200, categories=2, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    names = np.asarray([f"c{i % categories}" for i in range(n)])
    return labels, names, random.normal(labels * 1.5, 1), random.normal(labels * 0.5, 1)


def test_each_stratum_keeps_its_size():
    labels, names, _, _ = images()
    strata = strata_of(names, labels)
    weights = resample(strata, 50, 0)
    for stratum in set(strata):
        inside = strata == stratum
        assert (weights[:, inside].sum(axis=1) == inside.sum()).all()
    assert weights.mean() == pytest.approx(1)
    assert weights.std() == pytest.approx(1, abs=0.05)


def test_reproducible_and_seeded():
    strata = ["a"] * 30
    assert np.array_equal(resample(strata, 20, 1), resample(strata, 20, 1))
    assert not np.array_equal(resample(strata, 20, 1), resample(strata, 20, 2))


def test_one_stratum_does_not_move_another():
    alone = resample(["a"] * 10, 20, 0)
    assert np.array_equal(resample(["b"] * 5 + ["a"] * 10, 20, 0)[:, 5:], alone)


def test_interval_is_percentiles_without_nan():
    values = np.append(np.arange(101.0), np.nan)
    assert interval(values, 0.9) == pytest.approx((5, 95))
    assert np.isnan(interval(np.asarray([np.nan]), 0.9)).all()


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 80 experiments on samples with a known AUROC (normal scores, shift 1: 0.7602).
    hits = 0
    for seed in range(80):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 40)
        scores = random.normal(labels, 1)
        found = paired_image_auroc(labels, np.repeat("c", 80), scores, np.zeros(80), 300, seed)
        low, high = interval(found.differences + 0.5, 0.9)
        hits += low <= 0.7602 <= high
    assert 62 <= hits <= 79


def test_paired_image_values_are_the_macro_mean():
    labels, names, new, old = images()
    found = paired_image_auroc(labels, names, new, old, 100, 0)
    expected = np.mean([roc_auc_score(labels[names == c], new[names == c]) for c in ("c0", "c1")])
    assert found.challenger == pytest.approx(expected)
    assert found.difference == pytest.approx(found.challenger - found.champion)
    assert found.differences.shape == (100,)
    low, high = interval(found.differences, 0.95)
    assert 0 < low < found.difference < high


def test_the_same_scores_never_differ():
    labels, names, new, _ = images()
    found = paired_image_auroc(labels, names, new, new, 100, 0)
    assert found.difference == 0 and not found.differences.any()


def test_pairing_narrows_the_interval():
    labels, names, new, _ = images()
    twin = new + np.random.default_rng(9).normal(0, 0.05, len(new))
    paired = paired_image_auroc(labels, names, new, twin, 400, 0).differences.std()
    alone = paired_image_auroc(labels, names, new, np.zeros(len(new)), 400, 0).differences.std()
    assert paired < alone / 3


def test_categories_with_one_class_are_left_out():
    labels, names, new, old = images()
    lonely = np.append(labels, [0, 0]), np.append(names, ["z", "z"])
    with_them = paired_image_auroc(*lonely, np.append(new, [1, 2]), np.append(old, [1, 2]), 50, 0)
    assert with_them.challenger == paired_image_auroc(labels, names, new, old, 50, 0).challenger


def test_no_category_with_both_classes_is_an_error():
    with pytest.raises(FlawlineError, match="not defined"):
        paired_image_auroc(np.zeros(4), np.repeat("c", 4), np.zeros(4), np.zeros(4), 50, 0)


def test_fast_enough():
    labels, names, new, old = images(n=400, categories=3)
    start = time.perf_counter()
    paired_image_auroc(labels, names, new, old, 2000, 0)
    assert time.perf_counter() - start < 5


def histograms(maps, masks, use=None):
    use = np.ones(len(maps), dtype=bool) if use is None else use
    return pixel_histograms(maps, masks, use, quantile_edges(maps, masks, 512))


def test_paired_pixel(made):
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if m is None else m for m in made.masks])
    noise = np.random.default_rng(5).normal(0, 1, made.maps.shape)
    worse = (made.maps + 2 * noise).astype(np.float32)
    labels, names = made.index["label"].to_numpy(), made.index["category"].to_numpy()
    found = paired_pixel_auroc(labels, names, histograms(made.maps, masks), histograms(worse, masks), 200, 0)
    expected = np.mean(
        [roc_auc_score(masks[names == c].ravel(), made.maps[names == c].ravel()) for c in ("bolts", "tiles")]
    )
    assert found.challenger == pytest.approx(expected, abs=1e-3)
    low, high = interval(found.differences, 0.95)
    assert 0 < low < found.difference < high


def test_paired_pixel_ignores_scale_and_own_edges(made):
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if m is None else m for m in made.masks])
    labels, names = made.index["label"].to_numpy(), made.index["category"].to_numpy()
    scaled = (made.maps * 100 + 7).astype(np.float32)
    found = paired_pixel_auroc(labels, names, histograms(made.maps, masks), histograms(scaled, masks), 50, 0)
    assert abs(found.difference) < 1e-3


def test_paired_pixel_without_masks_is_none(made):
    labels, names = made.index["label"].to_numpy(), made.index["category"].to_numpy()
    empty = np.zeros(made.maps.shape, bool)
    one = histograms(made.maps, empty, use=labels == 0)
    assert isinstance(one, PixelHistograms)
    assert paired_pixel_auroc(labels, names, one, one, 50, 0) is None
