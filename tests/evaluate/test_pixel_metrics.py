import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from flawline.evaluate.pixel_metrics import PIXEL_METRICS, pixel_metrics
from flawline.evaluate.ranking import rank_pixels


def slow(maps, masks):
    """scikit-learn over all pixels, flattened."""
    truth, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r > 0]
    values = roc_auc_score(truth, scores), average_precision_score(truth, scores), max(f1)
    return dict(zip(PIXEL_METRICS, values, strict=True))


@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn_with_and_without_ties(seed, decimals):
    random = np.random.default_rng(seed)
    masks = random.random((4, 16, 16)) < 0.1
    maps = np.round(random.normal(masks, 1.0), decimals).astype(np.float32)
    assert pixel_metrics(rank_pixels(maps, masks)) == pytest.approx(slow(maps, masks))


@pytest.mark.parametrize("case", ["smooth", "weak", "ties", "outlier"])
def test_golden(golden, case):
    tensors, values = golden
    found = pixel_metrics(rank_pixels(tensors[f"in.maps_{case}"], tensors["in.masks"].astype(bool)))
    expected = [values[case][name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1max")]
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("fill", [False, True])
def test_one_kind_of_pixels_is_absent(fill):
    maps = np.zeros((2, 8, 8), dtype=np.float32)
    assert pixel_metrics(rank_pixels(maps, np.full(maps.shape, fill))) == {}


def test_no_images_is_absent():
    assert pixel_metrics(rank_pixels(np.zeros((0, 8, 8), np.float32), np.zeros((0, 8, 8), bool))) == {}


def test_inputs_stay_as_they_are():
    random = np.random.default_rng(0)
    maps, masks = random.random((2, 8, 8)).astype(np.float32), random.random((2, 8, 8)) < 0.5
    before = maps.copy(), masks.copy()
    rank_pixels(maps, masks)
    assert np.array_equal(maps, before[0]) and np.array_equal(masks, before[1])
