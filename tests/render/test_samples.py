import numpy as np
import pytest

from flawline.render.pairs import FLAWS, HELD_OUT, MATERIALS, SHAPES, caption, make_pair
from flawline.render.samples import SETS, SIDE, draw_flawed, draw_good

EVERY = [(s, c, d) for s, categories in SETS.items() for c, look in categories.items() for d in look.defects]


def test_each_set_has_three_categories_and_each_category_three_defects() -> None:
    for categories in SETS.values():
        assert len(categories) >= 3
        assert all(len(look.defects) >= 3 for look in categories.values())


def test_two_defect_types_stand_only_where_nothing_trains() -> None:
    trained = {d for look in SETS["castings"].values() for d in look.defects}
    elsewhere = {d for s, _, d in EVERY if s != "castings"}
    assert len(elsewhere - trained) >= 2


def test_backbone_never_sees_some_materials_and_defects_of_the_samples() -> None:
    assert not set(HELD_OUT["materials"]) & set(MATERIALS)
    assert not set(HELD_OUT["parts"]) & set(SHAPES)
    assert not set(HELD_OUT["defects"]) & set(FLAWS)
    used = {d for _, _, d in EVERY}
    assert len(used & set(HELD_OUT["defects"])) >= 2


@pytest.mark.parametrize(("dataset", "category", "defect"), EVERY)
def test_masks_mark_where_the_picture_is_flawed(dataset: str, category: str, defect: str) -> None:
    picture, mask = draw_flawed(SETS[dataset][category], defect, 7)
    again, mask_again = draw_flawed(SETS[dataset][category], defect, 7)
    assert picture.shape == (SIDE, SIDE, 3) and mask.shape == (SIDE, SIDE) and mask.dtype == bool
    assert 0.002 < mask.mean() < 0.35
    assert np.array_equal(picture, again) and np.array_equal(mask, mask_again)
    assert np.isfinite(picture).all()


def test_good_images_of_a_category_differ_and_repeat() -> None:
    look = SETS["castings"]["gear"]
    first, second = draw_good(look, 1).picture, draw_good(look, 2).picture
    assert not np.array_equal(first, second)
    assert np.array_equal(first, draw_good(look, 1).picture)


def test_pairs_differ_only_where_the_defect_is() -> None:
    for seed in range(12):
        pair = make_pair(seed, 96)
        changed = np.abs(pair.good.astype(int) - pair.flawed).max(-1) > 8
        assert 0 < changed.mean() < 0.6
        assert pair.material in MATERIALS and pair.defect in FLAWS and (not pair.part or pair.part in SHAPES)


def test_captions_of_good_pictures_name_no_defect() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        text = caption(rng, "brass", "washer", "")
        assert not any(flaw in text for flaw in FLAWS) and "with a" not in text
    flawed = {caption(rng, "brass", "washer", "crack") for _ in range(300)}
    assert any("with a crack" in text for text in flawed) and any("cracked" in text for text in flawed)
