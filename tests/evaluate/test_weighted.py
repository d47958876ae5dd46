import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from flawline.evaluate.aupro import aupro
from flawline.evaluate.aupro_200 import aupro_200, papers_thresholds
from flawline.evaluate.histograms import (
    SpooledHistograms,
    pixel_histograms,
    quantile_edges,
    region_histograms,
)
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.weighted import (
    aupro_200_of,
    aupro_of,
    pixel_metrics_of,
    spooled_sums,
    weighted_aupro,
    weighted_image_metrics,
    weighted_pixel_metrics,
)


def repeated(values, weights):
    """The images drawn, each as often as its weight says: what weights stand for."""
    return np.repeat(values, weights, axis=0)


@pytest.mark.parametrize("decimals", [0, 1, 7])
def test_image_metrics_equal_scikit_learn_on_the_drawn_images(decimals):
    random = np.random.default_rng(decimals)
    labels = random.integers(0, 2, 50)
    scores = np.round(random.normal(labels, 1.0), decimals)
    weights = random.integers(0, 4, (6, 50))
    weights[0] = 1
    found = weighted_image_metrics(labels, scores, weights)
    for row, weight in enumerate(weights):
        truth, drawn = repeated(labels, weight), repeated(scores, weight)
        precision, recall, _ = precision_recall_curve(truth, drawn)
        f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert found["image_auroc"][row] == pytest.approx(roc_auc_score(truth, drawn))
        assert found["image_ap"][row] == pytest.approx(average_precision_score(truth, drawn))
        assert found["image_f1_max"][row] == pytest.approx(f1)


def test_a_resample_without_one_class_is_not_defined():
    found = weighted_image_metrics(
        np.asarray([0, 1]), np.asarray([0.0, 1.0]), np.asarray([[1, 0], [0, 1], [1, 1]])
    )
    for values in found.values():
        assert np.isnan(values[:2]).all() and values[2] == 1


@pytest.fixture
def pixels(made):
    masks = np.stack([np.zeros(made.maps.shape[1:], bool) if m is None else m for m in made.masks])
    use = np.ones(len(masks), dtype=bool)
    edges = quantile_edges(made.maps, masks, 1024)
    histograms = pixel_histograms(made.maps, masks, use, edges)
    return made.maps, masks, histograms, region_histograms(made.maps, masks, use, edges)


def test_pixel_metrics_are_close_to_the_exact_ones_of_the_drawn_images(pixels):
    maps, masks, histograms, (overlap, regions) = pixels
    weights = np.random.default_rng(3).integers(0, 4, (4, len(maps)))
    weights[0] = 1
    found = weighted_pixel_metrics(histograms, weights)
    found["aupro"] = weighted_aupro(histograms, overlap, regions, weights, 0.3)
    for row, weight in enumerate(weights):
        ranking = rank_pixels(repeated(maps, weight), repeated(masks, weight))
        exact = pixel_metrics(ranking) | {"aupro": aupro(ranking, 0.3).value}
        for name, value in exact.items():
            assert found[name][row] == pytest.approx(value, abs=2e-3), name


def test_pixel_metrics_of_tied_scores_are_all_but_exact(pixels):
    # Fewer distinct scores than bins: binning loses nothing but the border between the two highest scores.
    _, masks, _, _ = pixels
    maps = np.random.default_rng(0).integers(0, 20, masks.shape).astype(np.float32) + 3 * masks
    edges = quantile_edges(maps, masks, 64)
    use = np.ones(len(maps), dtype=bool)
    overlap, regions = region_histograms(maps, masks, use, edges)
    histograms = pixel_histograms(maps, masks, use, edges)
    once = np.ones((1, len(maps)))
    ranking = rank_pixels(maps, masks)
    found = weighted_pixel_metrics(histograms, once)
    for name, value in pixel_metrics(ranking).items():
        assert found[name][0] == pytest.approx(value, abs=1e-3)
    assert weighted_aupro(histograms, overlap, regions, once, 0.3)[0] == pytest.approx(
        aupro(ranking, 0.3).value, abs=1e-3
    )


def test_no_defective_pixel_is_not_defined(pixels):
    _, _, histograms, (overlap, regions) = pixels
    weights = (histograms.anomalous.sum(1) == 0).astype(int)[None]
    assert all(np.isnan(values).all() for values in weighted_pixel_metrics(histograms, weights).values())
    assert np.isnan(weighted_aupro(histograms, overlap, regions, weights, 0.3)).all()


def test_sums_from_disk_give_the_same(pixels):
    maps, masks, histograms, (overlap, regions) = pixels
    spooled = SpooledHistograms(len(maps), histograms.edges)
    every = np.arange(len(maps))
    spooled.count(every, maps, masks, np.ones(len(maps), bool))
    rows = np.random.default_rng(0).permutation(len(maps))[:17]
    weights = np.random.default_rng(3).integers(0, 4, (4, len(rows)))
    sums = spooled_sums(spooled, rows, weights)
    wanted = weighted_pixel_metrics(histograms.rows(rows), weights)
    for name, values in pixel_metrics_of(sums).items():
        assert values == pytest.approx(wanted[name], abs=1e-12)
    whole = weighted_aupro(histograms.rows(rows), overlap[rows], regions[rows], weights, 0.3)
    assert aupro_of(sums, 0.3) == pytest.approx(whole, abs=1e-12)


def test_the_papers_aupro_of_resamples_with_the_thresholds_of_all(pixels):
    maps, masks, histograms, _ = pixels
    spooled = SpooledHistograms(len(maps), histograms.edges)
    every = np.arange(len(maps))
    spooled.count(every, maps, masks, np.ones(len(maps), bool))
    weights = np.random.default_rng(4).integers(0, 4, (3, len(maps)))
    weights[:, [np.argmax(maps.max(axis=(1, 2))), np.argmin(maps.min(axis=(1, 2)))]] = 1  # the extremes stay
    thresholds = papers_thresholds(maps.min(), maps.max())
    found = aupro_200_of(spooled_sums(spooled, every, weights), histograms.edges, thresholds, 0.3)
    for value, weight in zip(found, weights, strict=True):
        assert value == pytest.approx(aupro_200(repeated(maps, weight), repeated(masks, weight)), abs=5e-3)
    good = (np.asarray([mask.any() for mask in masks]) == 0).astype(int)[None]
    assert np.isnan(aupro_200_of(spooled_sums(spooled, every, good), histograms.edges, thresholds, 0.3)).all()
