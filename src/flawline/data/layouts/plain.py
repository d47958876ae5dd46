"""A user's own folder."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flawline.data.groups import read_groups
from flawline.data.layouts.base import GOOD, Record, register
from flawline.data.layouts.listing import folders, images, match_masks
from flawline.errors import FlawlineError

TRAIN_SHARE = 0.7  # of the good images, where a layout does not say what trains


@register
class Folder:
    """A user's own folder: good images and one folder a defect type, masks where there are any.

    Good images go to training or test by the hash of their content, about 70 to 30: the choice stays
    the same when images are added, and copies of one image always stand on the same side. Where groups.csv
    gives an image a group, the group's name decides: all of a group stand on the same side.
    """

    name = "folder"
    expects = "good/* and <defect>/* with optional masks/<defect>/<stem>*.png, or the same below <category>/"

    def matches(self, root: Path) -> bool:
        return (root / GOOD).is_dir() or any((folder / GOOD).is_dir() for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        groups = read_groups(root)
        for record in self._ungrouped(root):
            group = groups.get(record.image.relative_to(root).as_posix())
            split = record.split
            if record.defect == GOOD:
                split = _split(hashlib.sha256(group.encode()).digest() if group else _content(record.image))
            yield replace(record, split=split, group=group)

    def _ungrouped(self, root: Path) -> Iterator[Record]:
        if (root / GOOD).is_dir():
            yield from self._category(root, root.resolve().name)
        else:  # without good/ as well: the checks have to see what is missing
            for folder in folders(root):
                yield from self._category(folder, folder.name)

    @staticmethod
    def _category(folder: Path, category: str) -> Iterator[Record]:
        for defect in folders(folder):
            if defect.name == "masks":
                continue
            shown = images(defect)
            masks = {} if defect.name == GOOD else match_masks(shown, folder / "masks" / defect.name)
            yield from (Record(category, "test", defect.name, image, masks.get(image)) for image in shown)


def _content(image: Path) -> bytes:
    try:
        with image.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise FlawlineError(f"cannot read {image}: {error.strerror}", "fix or remove the file") from error


def _split(digest: bytes) -> str:
    return "train" if int.from_bytes(digest[:4], "big") < TRAIN_SHARE * 2**32 else "test"
