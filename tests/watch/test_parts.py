"""Crops, clusters, the bank's bounds, words: the pure parts of a look."""

import numpy as np
import pytest
from PIL import Image

from flawline.clip.backbone import Backbone
from flawline.data.vocabulary import Names, Vocabulary
from flawline.watch.bank import Bank, Group, bound_of
from flawline.watch.cluster import clusters
from flawline.watch.crops import box_of, embed
from flawline.watch.state import KNOWN, LIKE_GOOD
from flawline.watch.words import WordList, all_words, folder_name, suggest


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def heap(random: np.random.Generator, count: int, spread: float, axis: int) -> np.ndarray:
    centre = np.zeros(16)
    centre[axis] = 1
    return unit(centre + random.normal(0, spread / 4, (count, 16)))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (97, 97)])
@pytest.mark.parametrize("peak", [(0, 0), (31, 31), (10, 20), (0, 31)])
def test_a_box_holds_the_peak_and_lies_in_the_picture(size: tuple[int, int], peak: tuple[int, int]) -> None:
    values = np.zeros((32, 32))
    values[peak] = 1
    left, upper, right, lower = box_of(values, size, 0.5)
    assert 0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]
    assert right - left == lower - upper == round(0.5 * min(size))
    across, down = (peak[1] + 0.5) / 32 * size[0], (peak[0] + 0.5) / 32 * size[1]
    assert left <= across <= right and upper <= down <= lower


def test_one_hot_pixel_is_no_place() -> None:
    values = np.zeros((128, 128))
    values[5, 5] = 1.0
    values[80:90, 60:70] = 0.6
    left, upper, right, lower = box_of(values, (128, 128), 0.2)
    assert left <= 65 <= right and upper <= 85 <= lower


def test_crops_are_embedded_as_clip_does_it_whatever_the_batch(backbone: Backbone) -> None:
    random = np.random.default_rng(1)
    pictures = [Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(35)]
    found = embed(backbone, pictures)
    assert found.shape == (35, backbone.dim) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[33], embed(backbone, pictures[33:34])[0], atol=1e-5)
    assert embed(backbone, []).shape == (0, backbone.dim)


def test_clusters_are_found_whatever_the_order_and_loners_stay_alone() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate(
        [heap(random, 9, 0.2, 0), heap(random, 6, 0.2, 3), unit(random.normal(size=(7, 16)))]
    )
    found = clusters(rows, 0.2, 5)
    assert [one.members for one in found] == [tuple(range(9)), tuple(range(9, 15))]
    assert all(one.stability == 1.0 for one in found)
    order = random.permutation(len(rows))
    again = clusters(rows[order], 0.2, 5)
    assert [sorted(order[list(one.members)].tolist()) for one in again] == [
        list(one.members) for one in found
    ]
    assert clusters(rows[:4], 0.2, 5) == [] and clusters(rows[:0], 0.2, 5) == []


def test_a_cluster_that_hangs_on_the_distance_is_not_stable() -> None:
    random = np.random.default_rng(0)
    near = heap(random, 6, 0.05, 0)
    centre = np.zeros(16)
    centre[[0, 1]] = np.cos(0.68), np.sin(0.68)  # at cosine distance 0.22 from the others
    far = unit(centre + random.normal(0, 0.01, (6, 16)))
    rows = np.concatenate([near, far])
    assert [len(one.members) for one in clusters(rows, 0.24, 5)] == [12]
    assert clusters(rows, 0.24, 5)[0].stability == 0.5
    assert [one.stability for one in clusters(rows, 0.15, 5)] == [1.0, 1.0]


def test_a_group_explains_what_is_as_like_it_as_its_own() -> None:
    random = np.random.default_rng(0)
    tight, mixed = heap(random, 24, 0.05, 0), unit(random.normal(size=(24, 16)))
    assert 0.98 < bound_of(tight, 0.95) < 1
    assert bound_of(mixed, 0.95) == 0.95, "a mixed group must not swallow what is new"
    assert bound_of(tight[:4], 0.95) == 0.95
    bank = Bank(
        [
            Group(LIKE_GOOD, "plates/gear/good", tight, bound_of(tight, 0.95)),
            Group(KNOWN, "plates/gear/scratch", mixed, bound_of(mixed, 0.95)),
        ]
    )
    fresh = heap(random, 400, 0.05, 0)
    share = np.mean([bank.explain(one) == (LIKE_GOOD, "plates/gear/good") for one in fresh])
    assert share > 0.95
    assert bank.explain(mixed[3]) == (KNOWN, "plates/gear/scratch")
    assert bank.explain(unit(np.eye(16)[5:6])[0]) is None
    assert Bank().explain(tight[0]) is None and Bank().good_centre is None
    assert bank.good_centre is not None and np.allclose(bank.good_centre, tight.mean(0))


def test_words_of_all_data_sets_once() -> None:
    vocabulary = Vocabulary(
        defects={"scratch": "scratch", "s2": "scratch"}, datasets={"a": Names(defects={"x": "burn mark"})}
    )
    assert all_words(vocabulary) == ["burn mark", "scratch"]


def test_the_nearest_word_is_the_one_that_was_put_in(backbone: Backbone) -> None:
    listed = WordList(backbone, ["burn mark", "loose thread", "scratch {odd}"])
    good = np.zeros(backbone.dim, dtype=np.float32)
    for number, word in enumerate(listed.words):
        crops = np.repeat(listed.directions[number : number + 1], 3, axis=0)
        nearest = listed.nearest(crops, good)
        assert nearest[0][0] == word and nearest[0][1] == pytest.approx(1, abs=1e-5)
        assert [cosine for _, cosine in nearest] == sorted((c for _, c in nearest), reverse=True)
    assert WordList(backbone, []).nearest(crops, None) == []


def test_a_suggestion_is_a_folder_name_that_is_free() -> None:
    near = [("Loose thread", 0.5), ("burn mark", 0.4)]
    assert suggest(near, set()) == ("loose_thread", "Loose thread")
    assert suggest(near, {"Loose_Thread"}) == ("burn_mark", "burn mark")
    assert suggest(near, {"loose_thread", "burn_mark", "new_type_1"}) == ("new_type_2", "defect")
    assert suggest([], set()) == ("new_type_1", "defect")
    assert folder_name("../é/ Ä!") == "" and folder_name(" Crack (deep) ") == "crack_deep"
