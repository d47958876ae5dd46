"""Rules on the manifest, row by row. Import inside functions only: it takes seconds."""

from pathlib import Path

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from flawline.checks.custom import ExpectContrast, ExpectPairsAmong, ExpectSidesWithin
from flawline.checks.rule import Row, Rule
from flawline.checks.tables import types_with_masks
from flawline.data.layouts import GOOD
from flawline.data.manifest import COLUMNS
from flawline.settings import Settings

LEAST_SPREAD = 1.0  # grey levels of 255


def schema_rules(manifest: pd.DataFrame) -> list[Rule]:
    """The manifest is what later stages expect."""
    remedy = "run the stage `manifest` again (dvc repro manifest)"
    kinds = sorted(set(manifest["defect"])) if "defect" in manifest else []
    pairs = [[0, GOOD], *([1, kind] for kind in kinds if kind != GOOD)]
    ordered = gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(COLUMNS))
    rules = [
        Rule("columns", "critical", "The manifest has its columns.", remedy, "images", ordered, _unexpected)
    ]
    for column in ("label", "width", "height"):
        typed = gxe.ExpectColumnValuesToBeOfType(column=column, type_=COLUMNS[column])
        what = f"The column {column} holds {COLUMNS[column]}."
        rules.append(Rule(f"type_{column}", "critical", what, remedy, "images", typed, _unexpected))
    return [
        *rules,
        Rule(
            "unique_paths",
            "critical",
            "Every image stands in the manifest once.",
            remedy,
            "images",
            gxe.ExpectColumnValuesToBeUnique(column="image"),
            lambda row: f"{row['image']}: stands in the manifest more than once",
        ),
        Rule(
            "splits",
            "critical",
            "Every image is for training or for testing.",
            remedy,
            "images",
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=["train", "test"]),
            lambda row: f"{row['image']}: split '{row['split']}' is neither train nor test",
        ),
        Rule(
            "labels",
            "critical",
            "Good images have label 0, defects label 1.",
            remedy,
            "images",
            ExpectPairsAmong(column_list=["label", "defect"], pairs=pairs),
            lambda row: f"{row['image']}: label {row['label']} contradicts defect '{row['defect']}'",
        ),
    ]


def image_rules(settings: Settings) -> list[Rule]:
    """Images can be used."""
    smallest, largest = settings.checks.min_side, settings.checks.max_side
    return [
        Rule(
            "images_decode",
            "critical",
            "Every image decodes.",
            "replace or remove the image",
            "images",
            gxe.ExpectColumnValuesToNotMatchRegex(column="problem", regex="^(?!mask )"),
            lambda row: f"{row['image']}: {row['problem']}",
        ),
        Rule(
            "sizes",
            "critical",
            f"Both sides of every image are {smallest} to {largest} pixels.",
            "resize or remove the image, or change checks.min_side or checks.max_side",
            "images",
            ExpectSidesWithin(
                column_list=["width", "height"],
                smallest=smallest,
                largest=largest,
                row_condition=Column("width") > 0,  # where the header cannot be read, images_decode tells
            ),
            lambda row: f"{row['image']}: {row['width']}×{row['height']} pixels, not {smallest} to {largest}",
        ),
    ]


def mask_rules(manifest: pd.DataFrame) -> list[Rule]:
    """Masks are there and can be used."""
    masked = types_with_masks(manifest)
    anomalous = manifest[(manifest["label"] == 1) & (manifest["split"] == "test")]
    types = sorted(set(zip(anomalous["dataset"], anomalous["defect"], strict=True)))
    bare = [[name, kind] for name, kind in types if name in masked and kind not in masked[name]]
    pairs = sorted(set(zip(manifest["dataset"], manifest["defect"], strict=True)))
    others = [[name, kind] for name, kind in pairs if [name, kind] not in bare]
    return [
        Rule(
            "masks_present",
            "critical",
            "Where a defect type of a data set has masks, every test image of it has one.",
            "add the mask, or remove the image",
            "masked",
            gxe.ExpectColumnValuesToNotBeNull(column="mask"),
            lambda row: f"{row['image']}: has no mask in ground_truth/{row['defect']}/",
        ),
        Rule(
            "masks_of_types",
            "warning",
            "In data sets with masks every defect type has them; one without takes no part in pixel metrics.",
            "add masks for all images of the type if pixel metrics of it are wanted",
            "images",
            ExpectPairsAmong(column_list=["dataset", "defect"], pairs=others),
            lambda row: f"{row['dataset']}: defect type '{row['defect']}' has no masks",
        ),
        Rule(
            "masks_fit",
            "critical",
            "Every mask decodes, is as large as its image and marks at least one pixel.",
            "replace or remove the mask",
            "images",
            gxe.ExpectColumnValuesToNotMatchRegex(column="problem", regex="^mask "),
            lambda row: f"{row['image']}: {row['problem']}",
        ),
        Rule(
            "masks_anywhere",
            "warning",
            "Every test data set has masks; without them it has no pixel metrics.",
            "add masks if pixel metrics are wanted",
            "datasets",
            gxe.ExpectColumnValuesToBeBetween(
                column="masks", min_value=1, row_condition=Column("role") != "train"
            ),
            lambda row: f"{row['key']}: no masks",
        ),
    ]


def contrast_rules(settings: Settings, data_root: Path) -> list[Rule]:
    """Images show something."""
    return [
        Rule(
            "contrast",
            "warning",
            "Every image shows something.",
            "look at the image: lens cap, lights off, overexposed?",
            "images",
            ExpectContrast(
                column="image",
                folder=str(data_root),
                least=LEAST_SPREAD,
                max_pixels=settings.data.max_pixels,
                row_condition=Column("problem").is_null(),
            ),
            lambda row: f"{row['image']}: nearly one colour",
        )
    ]


def _unexpected(row: Row) -> str:
    return f"manifest: {row}"
