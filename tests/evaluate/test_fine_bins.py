import numpy as np
import pytest

from flawline.evaluate.fine_bins import PAGES, FineBins
from flawline.evaluate.order_keys import order_keys


def filled(scores, defective=(), limit=PAGES, parts=1):
    bins = FineBins(limit)
    where = np.asarray(defective, dtype=np.int64)
    for part in np.array_split(np.arange(len(scores)), parts):
        keys = order_keys(scores[part])
        inside = np.flatnonzero(np.isin(part, where))
        bins.add(keys, inside, np.full(len(inside), 0.25), keys)
    return bins


def as_lists(bins):
    return {name: values.tolist() for name, values in bins.rising().items()} | {"shift": bins.shift}


def test_few_pages_tell_every_score_apart():
    scores = (np.float32(0.5) + np.float32(6e-8) * np.arange(900)).astype(np.float32)
    bins = filled(scores, defective=[3, 4])
    assert bins.shift == 0
    found = bins.rising()
    assert len(found["first"]) == len(np.unique(scores))
    assert found["normal"].sum() == 898 and found["anomalous"].sum() == 2 and found["overlap"].sum() == 0.5


def test_many_pages_join_neighbours_and_lose_no_pixel():
    scores = np.random.default_rng(0).random(20000).astype(np.float32)
    bins = filled(scores, defective=range(100))
    assert bins.shift > 0 and bins.normal.size <= PAGES
    found = bins.rising()
    assert found["normal"].sum() == 19900 and found["anomalous"].sum() == 100
    assert np.all(np.diff(found["first"].astype(np.int64)) > 0)


@pytest.mark.parametrize("spread", [1e-6, 1.0])
def test_any_order_and_any_parts_give_the_same_bins(spread):
    random = np.random.default_rng(1)
    scores = np.float32(0.3) + np.float32(spread) * random.random(5000).astype(np.float32)
    defective = np.arange(0, 5000, 7)
    once = filled(scores, defective)
    order = random.permutation(5000)
    back = np.argsort(order)
    mixed = filled(scores[order], back[defective], parts=9)
    assert as_lists(once) == as_lists(mixed)


def test_merging_is_adding():
    random = np.random.default_rng(2)
    narrow = (0.5 + 1e-6 * random.random(2000)).astype(np.float32)
    wide = random.normal(size=6000).astype(np.float32)
    both = filled(np.concatenate([narrow, wide]), range(10))
    for first, second in (((narrow, range(10)), (wide, ())), ((wide, ()), (narrow, range(10)))):
        one, other = filled(*first), filled(*second)
        before = as_lists(other)
        one.merge(other)
        assert as_lists(one) == as_lists(both)
        assert as_lists(other) == before


def test_ties_stay_known_in_joined_bins():
    random = np.random.default_rng(3)
    scores = np.concatenate([np.full(500, 0.3, np.float32), random.random(20000).astype(np.float32)])
    tied = np.round(random.random(20000) * 200).astype(np.float32) / 200
    found = filled(scores).rising()
    assert (found["high"] > found["low"]).mean() > 0.1
    found = filled(np.concatenate([tied, 2.0 ** -np.arange(120, dtype=np.float32)])).rising()
    assert np.array_equal(found["high"], found["low"])


def test_limits():
    with pytest.raises(ValueError, match="at least"):
        FineBins(PAGES - 1)
    with pytest.raises(ValueError, match="cannot be merged"):
        FineBins(PAGES).merge(FineBins(2 * PAGES))
