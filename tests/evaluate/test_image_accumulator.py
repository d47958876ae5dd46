import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.image_accumulator import ImageAccumulator
from flawline.evaluate.image_metrics import image_metrics


def made(count=400, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    return labels, random.normal(labels, 1.0)


def streamed(labels, scores, limit=1 << 16, parts=7):
    images = ImageAccumulator(limit)
    for rows in np.array_split(np.arange(len(labels)), parts):
        images.update(labels[rows], scores[rows])
    return images


@pytest.mark.parametrize(
    "shape",
    [lambda x: x, lambda x: np.round(x, 1), lambda x: 0.5 + 1e-12 * x, lambda x: 1 / (1 + np.exp(-9 * x))],
)
def test_equals_scikit_learn_on_few_scores(shape):
    labels, scores = made()
    found = streamed(labels, shape(scores)).metrics()
    assert found == pytest.approx(image_metrics(labels, shape(scores)), abs=1e-12)


def test_within_1e_4_when_neighbours_are_joined():
    labels, scores = made(60000)
    images = streamed(labels, scores, limit=1 << 14)
    assert images.shift > 0 and len(images.keys) <= 1 << 14
    assert images.metrics() == pytest.approx(image_metrics(labels, scores), abs=1e-4)


@pytest.mark.parametrize("limit", [64, 1 << 16])
def test_neither_order_nor_workers_matter(limit):
    labels, scores = made(1000)
    once = streamed(labels, scores, limit, 1)
    order = np.random.default_rng(1).permutation(1000)
    together = ImageAccumulator(limit)
    for rows in np.array_split(order, 5):
        together.merge(streamed(labels[rows], scores[rows], limit, 3))
    assert together.metrics() == once.metrics()
    assert np.array_equal(together.keys, once.keys) and together.shift == once.shift


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_absent(label):
    assert streamed(np.full(5, label), np.arange(5.0), parts=2).metrics() == {}
    assert ImageAccumulator().metrics() == {}


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(FlawlineError, match="no finite number"):
        ImageAccumulator().update([0, 1], [0.5, np.nan])
