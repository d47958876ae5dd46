"""DAGM 2007: drawn defects on ten statistically textured surfaces (Wieler and Hahn, DAGM 2007)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flawline.data.layouts.base import GOOD, Record, left_out, register
from flawline.data.layouts.listing import folders, images, match_masks
from flawline.errors import FlawlineError

_CLASS = re.compile(r"Class\d+")
_LABEL = re.compile(r"\S+_label\.\w+", re.IGNORECASE)
_DEFECT = "defect"


@register
class Dagm:
    """ClassK/{Train,Test}/NNNN.PNG with coarse ellipses in Label/NNNN_label.PNG, of defective images only.

    The published sides are kept: the good images of Train train, all of Test tests. Defective images of Train are
    left out. An image is good because it has no label file, so Labels.txt is asked whether one is missing.
    """

    name = "dagm"
    expects = "Class<K>/Train/<NNNN>.PNG, Class<K>/Test/<NNNN>.PNG, and Label/<NNNN>_label.PNG in both"

    def matches(self, root: Path) -> bool:
        return any(self._is_class(folder) for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        for folder in folders(root):
            if not self._is_class(folder):
                continue
            for side, split in (("Train", "train"), ("Test", "test")):
                shown = images(folder / side)
                labels = self._labels(folder / side, shown)
                for image in shown:
                    if image not in labels:
                        yield Record(folder.name, split, GOOD, image)
                    elif split == "test":
                        yield Record(folder.name, split, _DEFECT, image, labels[image])

    def facts(self, root: Path, records: list[Record]) -> dict[str, Any]:
        """How many images were left out, and that masks are coarse."""
        every = sum(
            len(images(folder / side))
            for folder in folders(root)
            if self._is_class(folder)
            for side in ("Train", "Test")
        )
        return {
            "masks": "coarse ellipses around the defects",
            **left_out("defective training images", every - len(records)),
        }

    @staticmethod
    def _is_class(folder: Path) -> bool:
        return bool(_CLASS.fullmatch(folder.name)) and any(
            (folder / side).is_dir() for side in ("Train", "Test")
        )

    @staticmethod
    def _labels(folder: Path, shown: list[Path]) -> dict[Path, Path]:
        labels = match_masks(shown, folder / "Label")
        there = {label.name.casefold() for label in images(folder / "Label")}
        for table in sorted((folder / "Label").glob("[Ll]abels.txt")):
            for name in _LABEL.findall(table.read_text(encoding="utf-8", errors="replace")):
                if name.casefold() not in there:
                    raise FlawlineError(
                        f"{table} names {name}, which is missing: its image would count as good",
                        "restore the file",
                    )
        return labels
