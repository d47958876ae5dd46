"""Support images: drawn by seed and hash, never from the test split."""

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.features.store import FeatureSet
from flawline.features.support import draw_support
from flawline.files import read_parquet, write_parquet
from flawline.stages import features as stage
from flawline.workspace import Workspace


@pytest.fixture
def support(small: Workspace, change_settings) -> FeatureSet:
    stage.run(small, change_settings(), "test", "parts")
    return FeatureSet.open(small.features("support", "parts"))


def test_support_is_good_training_images_and_nothing_that_is_tested(
    small: Workspace, support: FeatureSet
) -> None:
    tested = FeatureSet.open(small.features("test", "parts")).index
    assert not set(support.index["sha256"]) & set(tested["sha256"])
    assert set(support.index["defect"]) == {"good"} and not support.index["synthetic"].any()
    assert support.index.groupby("category").size().to_dict() == {"bolt": 3, "größe m8": 3}


def test_a_copy_in_the_test_split_is_no_support(small: Workspace, change_settings) -> None:
    table = read_parquet(small.manifest)
    tested = table.index[(table["split"] == "test") & (table["defect"] == "good")][0]
    trained = table.index[(table["split"] == "train") & (table["category"] == table.loc[tested, "category"])]
    table.loc[trained[0], "sha256"] = table.loc[tested, "sha256"]
    write_parquet(small.manifest, table)
    stage.run(small, change_settings(), "test", "parts")
    kept = FeatureSet.open(small.features("support", "parts")).index
    assert table.loc[tested, "sha256"] not in set(kept["sha256"]) and len(kept) == 5


def test_the_draw_is_by_seed_and_hash_alone(support: FeatureSet) -> None:
    draws = {}
    for seed in range(6):
        rows = draw_support(support, 1, seed)
        picked = support.index.iloc[rows.numpy()]
        assert picked["category"].tolist() == ["bolt", "größe m8"]
        draws[seed] = tuple(picked["sha256"])
        more = support.index.iloc[draw_support(support, 2, seed).numpy()]
        assert set(draws[seed]) <= set(more["sha256"])
        assert np.array_equal(draw_support(support, 1, seed).numpy(), rows.numpy())
    assert len(set(draws.values())) > 1


def test_too_few_good_images_are_told(small: Workspace, support: FeatureSet, change_settings) -> None:
    with pytest.raises(
        FlawlineError, match=r"4 good images a category are asked for, there are 3 of category"
    ):
        draw_support(support, 4, 0)
    stage.run(small, change_settings(features={"support": 0}), "test", "parts")
    with pytest.raises(FlawlineError, match="there are none"):
        draw_support(FeatureSet.open(small.features("support", "parts")), 1, 0)
