"""The tables that expectations are put on beside the manifest: what must be masked, categories, data sets."""

from typing import TYPE_CHECKING

from flawline.data.layouts import GOOD
from flawline.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

BOTH = "train and test"


def category_table(manifest: "pd.DataFrame", data: DataSettings) -> "pd.DataFrame":
    """One row a category: key (`dataset/category`), trains, tests, good_train, good_test, anomalous."""
    import pandas as pd

    rows = []
    for (dataset, category), part in manifest.groupby(["dataset", "category"], sort=True):
        good = part["defect"] == GOOD
        test = part["split"] == "test"
        rows.append(
            {
                "key": f"{dataset}/{category}",
                "trains": dataset in data.train,
                "tests": dataset in data.test,
                "good_train": int((good & ~test).sum()),
                "good_test": int((good & test).sum()),
                "anomalous": int((~good & test).sum()),
            }
        )
    return pd.DataFrame(rows)


def dataset_table(manifest: "pd.DataFrame", data: DataSettings) -> "pd.DataFrame":
    """One row a data set: key, role (`train`, `test` or `train and test`), masks (number of mask files)."""
    import pandas as pd

    masks = manifest[manifest["mask"].notna()].groupby("dataset").size()
    rows = [
        {
            "key": name,
            "role": BOTH
            if name in data.train and name in data.test
            else ("train" if name in data.train else "test"),
            "masks": int(masks.get(name, 0)),
        }
        for name in data.all
    ]
    return pd.DataFrame(rows)


def types_with_masks(manifest: "pd.DataFrame") -> dict[str, list[str]]:
    """{data set with masks: its types with at least one}: every image of such a type must have one.

    A type that has none at all, as one that came in without, takes no part in pixel metrics.
    """
    masked = manifest[manifest["mask"].notna()]
    return {str(name): sorted(set(part["defect"])) for name, part in masked.groupby("dataset", sort=True)}


def images_with_masks(manifest: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the manifest that must have a mask: defective test images of types with masks.

    A table of its own, because a condition on rows holds a limited number of pairs of data set and type.
    """
    kinds = [(name, kind) for name, kinds in types_with_masks(manifest).items() for kind in kinds]
    masked = manifest.set_index(["dataset", "defect"]).index.isin(kinds)
    return manifest[(manifest["label"] == 1) & (manifest["split"] == "test") & masked].reset_index(drop=True)


def leaks(images: "pd.DataFrame", train_sets: list[str], test_sets: list[str]) -> "pd.Series":
    """Which images stand on both sides.

    Args:
        images: columns dataset, split, sha256 (empty: not read, never a leak).
        train_sets: data sets whose training split trains.
        test_sets: data sets whose test split tests.

    Returns:
        bool, aligned with `images`: True where the same content is in the training and the test split of one
        data set, or in a training split of `train_sets` and a test split of `test_sets`.
    """
    read = images["sha256"] != ""
    sides = images.groupby(["dataset", "sha256"])["split"].transform("nunique")
    trains = images["dataset"].isin(train_sets) & (images["split"] == "train")
    tests = images["dataset"].isin(test_sets) & (images["split"] == "test")
    crossed = set(images.loc[trains, "sha256"]) & set(images.loc[tests, "sha256"])
    return read & ((sides > 1) | ((trains | tests) & images["sha256"].isin(crossed)))
