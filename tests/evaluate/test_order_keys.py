import numpy as np
import pytest

from flawline.evaluate.order_keys import floor_float32, order_keys, wide_keys

ONE = np.float32(1)


def scores(unit):
    random = np.random.default_rng(0)
    inside = [
        random.random(500),
        1 - 2.0 ** -random.uniform(1, 26, 500),
        2.0 ** -random.uniform(1, 149, 500),
        [0, 0.5, 1],
    ]
    beyond = [
        -random.random(200),
        random.normal(0, 1e4, 200),
        np.exp(random.uniform(-80, 69, 500)),
        [-1, 2, 1.5],
    ]
    made = np.concatenate(inside if unit else inside + beyond).astype(np.float32)
    near = [np.nextafter(np.float32([0.5, 1, 0]), np.float32(way)) for way in (1, 0)]
    return np.unique(np.concatenate([made, *near, *([] if unit else [np.nextafter([ONE], [ONE + 1])])]))


@pytest.mark.parametrize("unit", [True, False])
def test_keys_rise_with_the_scores(unit):
    values = scores(unit)
    keys = order_keys(values)
    assert keys.dtype == np.uint32
    assert np.all(np.diff(keys.astype(np.int64)) > 0)


def test_a_key_does_not_depend_on_the_other_scores():
    values = scores(True)
    among = order_keys(np.concatenate([values, np.float32([-3, 7e20])]))[: len(values)]
    assert np.array_equal(order_keys(values), among)


def test_scores_near_one_are_told_apart_as_those_near_zero():
    distance = np.float32(2.0) ** -np.arange(3, 24, dtype=np.float32)
    near_zero, near_one = (order_keys(values).astype(np.int64) for values in (distance, 1 - distance))
    assert np.array_equal(np.diff(near_one), -np.diff(near_zero))
    # Exactly one, which saturated pixels share, is a whole octave away from its neighbour.
    below = np.nextafter(ONE, np.float32(0))
    assert np.diff(order_keys(np.asarray([below, ONE])).astype(np.int64))[0] >= 1 << 23


def test_both_zeros_are_one_score():
    assert len(set(order_keys(np.float32([0.0, -0.0])).tolist())) == 1
    assert len(set(order_keys(np.float32([0.0, -0.0, -5.0])).tolist())) == 2
    assert len(set(wide_keys(np.asarray([0.0, -0.0])).tolist())) == 1


def test_shape_and_input_stay():
    values = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    before = values.copy()
    assert order_keys(values).shape == (2, 3, 4)
    assert np.array_equal(values, before)


def test_no_scores_no_keys():
    assert order_keys(np.zeros(0, np.float32)).shape == (0,)


def test_wide_keys_tell_all_doubles_apart():
    values = np.sort(np.concatenate([np.random.default_rng(0).normal(size=500), 0.5 + 1e-15 * np.arange(50)]))
    values = np.unique(values)
    assert np.all(wide_keys(values)[1:] > wide_keys(values)[:-1])


def test_floor_is_exceeded_by_the_same_float32_scores():
    random = np.random.default_rng(0)
    thresholds = random.normal(size=200)
    values = np.concatenate([thresholds.astype(np.float32), random.normal(size=200).astype(np.float32)])
    floor = floor_float32(thresholds)
    assert floor.dtype == np.float32
    for threshold, low in zip(thresholds, floor, strict=True):
        assert np.array_equal(values.astype(np.float64) > threshold, values > low)
