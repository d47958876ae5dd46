"""VisA (Zou et al., ECCV 2022) as published: the official split, and the defect types that its masks hold."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flawline.data.images import mask_values
from flawline.data.layouts.base import GOOD, Record, register
from flawline.data.layouts.listing import folders, there
from flawline.data.layouts.visa_types import TYPES, folder_name
from flawline.errors import FlawlineError
from flawline.progress import track

SPLIT = "split_csv/1cls.csv"
COMBINED = "combined"  # several types in one image
UNKNOWN = "anomaly"  # neither the annotation nor the mask says which type
_NORMAL = "normal"
_SPLIT_COLUMNS = ("object", "split", "label", "image", "mask")
_ANNOTATION_COLUMNS = ("image", "label", "mask")


@register
class Visa:
    """<class>/Data/{Images,Masks} and split_csv/1cls.csv, which says what trains and what tests.

    The folder of a defective image is its type as image_anno.csv words it; where that file says nothing, the mask's
    numbers do. Several types: `combined`. Masks are kept as they are: any value above 0 is defect, and the value says
    which (`mask_values` in dataset.json). Classes whose folder is not there are passed over.
    """

    name = "visa"
    expects = "<class>/Data/Images/{Normal,Anomaly}, <class>/Data/Masks/Anomaly and split_csv/1cls.csv"
    licence = "CC BY 4.0"

    def matches(self, root: Path) -> bool:
        return any((folder / "Data" / "Images").is_dir() for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        rows = [
            row for row in _table(root / SPLIT, _SPLIT_COLUMNS) if (root / row["object"] / "Data").is_dir()
        ]
        shown = there(root, [row["image"] for row in rows], SPLIT)
        masks = [row["mask"] for row in rows if row["mask"]]
        masked = dict(zip(masks, there(root, masks, SPLIT), strict=True))
        told = _annotated(root)
        for row, image in zip(rows, shown, strict=True):
            category, split = row["object"], row["split"]
            if split not in {"train", "test"}:
                raise FlawlineError(
                    f"{root / SPLIT}: split '{split}' is neither train nor test", "restore it"
                )
            if row["label"] == _NORMAL:
                yield Record(category, split, GOOD, image)
                continue
            if split == "train":
                raise FlawlineError(
                    f"{root / SPLIT}: {row['image']} is defective and trains", "restore the file"
                )
            mask = masked.get(row["mask"])
            yield Record(category, split, _folder(told.get(row["image"]), category, mask), image, mask)

    def facts(self, root: Path, records: list[Record]) -> dict[str, Any]:
        """`mask_values`: {class: {number in the masks: words}}, of classes whose masks still hold the numbers."""
        found: dict[str, list[tuple[str, frozenset[int]]]] = {}
        masked = [record for record in records if record.mask is not None]
        for record in track(masked, "looking for defect types in masks"):
            assert record.mask is not None
            found.setdefault(record.category, []).append((record.defect, _values(record.mask)))
        tables = {
            category: {str(number): words for number, words in enumerate(TYPES[category], 1)}
            for category, seen in sorted(found.items())
            if category in TYPES and _holds_types(category, seen)
        }
        return {"mask_values": tables} if tables else {}


def _folder(told: list[str] | None, category: str, mask: Path | None) -> str:
    """Folder name of a defective image: from its annotated types, else from the numbers in its mask."""
    names = {folder_name(words) for words in told or []} - {"", _NORMAL, UNKNOWN}
    if not names and mask is not None:
        known = TYPES.get(category, ())
        values = _values(mask)
        if values and max(values) <= len(known):
            names = {folder_name(known[value - 1]) for value in values}
    return COMBINED if len(names) > 1 else next(iter(names), UNKNOWN)


def _holds_types(category: str, seen: list[tuple[str, frozenset[int]]]) -> bool:
    """Whether masks hold type numbers. Copies that went through a conversion may hold 0 and 1, or 0 and 255, alone."""
    values = frozenset().union(*(numbers for _, numbers in seen))
    if not values or max(values) > len(TYPES[category]):
        return False
    several = len({defect for defect, _ in seen} - {UNKNOWN}) > 1
    return not (several and len(values) == 1)


def _values(mask: Path) -> frozenset[int]:
    try:
        return mask_values(mask)
    except FlawlineError:  # a broken mask is for the checks to tell
        return frozenset()


def _annotated(root: Path) -> dict[str, list[str]]:
    """{image path: the types that image_anno.csv of its class names}; classes without that file are left out."""
    told: dict[str, list[str]] = {}
    for folder in folders(root):
        path = folder / "image_anno.csv"
        if path.is_file():
            for row in _table(path, _ANNOTATION_COLUMNS):
                told[row["image"]] = [words.strip() for words in row["label"].split(",")]
    return told


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    remedy = "restore the published file"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing: it says what trains and what tests", remedy) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", remedy) from error
    for number, row in enumerate(rows, 2):
        if any(row.get(column) is None for column in columns):
            raise FlawlineError(f"{path}: line {number} lacks one of {', '.join(columns)}", remedy)
    return rows
