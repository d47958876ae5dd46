import pandas as pd

from flawline.checks.tables import category_table, dataset_table, leaks, types_with_masks
from flawline.settings import DataSettings


def table(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["dataset", "split", "sha256"])


def test_leak_within_a_data_set() -> None:
    images = table(("a", "train", "1"), ("a", "test", "1"), ("a", "train", "2"), ("a", "test", "3"))
    assert leaks(images, [], []).tolist() == [True, True, False, False]


def test_leak_across_data_sets_only_where_one_trains_and_the_other_tests() -> None:
    images = table(("a", "train", "1"), ("b", "test", "1"), ("b", "train", "2"), ("a", "test", "2"))
    assert leaks(images, ["a"], ["b"]).tolist() == [True, True, False, False]
    assert leaks(images, ["b"], ["a"]).tolist() == [False, False, True, True]
    assert not leaks(images, ["a"], ["c"]).any()


def test_copies_on_one_side_and_unread_files_are_no_leak() -> None:
    images = table(("a", "train", "1"), ("a", "train", "1"), ("a", "train", ""), ("a", "test", ""))
    assert not leaks(images, ["a"], ["a"]).any()


def test_category_and_dataset_tables() -> None:
    rows = [
        ("a", "x", "train", "good", None),
        ("a", "x", "test", "good", None),
        ("a", "x", "test", "rust", "m"),
        ("b", "y", "test", "rust", None),
    ]
    manifest = pd.DataFrame(rows, columns=["dataset", "category", "split", "defect", "mask"])
    data = DataSettings(train=["a"], test=["b", "a"])
    assert category_table(manifest, data).values.tolist() == [
        ["a/x", True, True, 1, 1, 1],
        ["b/y", False, True, 0, 0, 1],
    ]
    assert dataset_table(manifest, data).values.tolist() == [["a", "train and test", 1], ["b", "test", 0]]
    assert list(types_with_masks(manifest)) == ["a"]
