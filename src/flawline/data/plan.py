"""What will stand where below data/<name>/: copies of the source's files, pieces of images, and groups.csv."""

import hashlib
import io
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from flawline.data.groups import GROUPS, groups_text
from flawline.data.images import load_mask, load_rgb
from flawline.data.layouts import Record
from flawline.errors import FlawlineError
from flawline.files import sha256_file


class Part(Protocol):
    """One file to be."""

    def sha256(self) -> str:
        """The hash of its content, 64 hex digits."""

    def write(self, place: Path) -> None:
        """Write it to `place`, whose folder exists."""


Plan = dict[str, Part]  # POSIX path below data/<name> → what will be there


@dataclass(frozen=True)
class Copy:
    """A file of the source as it is."""

    file: Path

    def sha256(self) -> str:
        return digest(self.file)

    def write(self, place: Path) -> None:
        shutil.copyfile(self.file, place)


@dataclass(frozen=True)
class Text:
    """A file that is written here."""

    text: str

    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def write(self, place: Path) -> None:
        place.write_bytes(self.text.encode())


@dataclass(frozen=True)
class Piece:
    """A piece of an image (as RGB) or of a mask (0/255) as PNG; `box` is (left, upper, right, lower) in pixels."""

    file: Path
    box: tuple[int, int, int, int]
    is_mask: bool

    def sha256(self) -> str:
        return hashlib.sha256(self._bytes()).hexdigest()

    def write(self, place: Path) -> None:
        place.write_bytes(self._bytes())

    def _bytes(self) -> bytes:
        stream = io.BytesIO()
        _whole(self.file, self.is_mask).crop(self.box).save(stream, format="PNG")
        return stream.getvalue()


def make_plan(source: Path, records: list[Record], licence: Path | None) -> Plan:
    """Where every image, mask and licence of a data set goes, in MVTec layout, and groups.csv if there are groups.

    Raises:
        FlawlineError: a link that leaves `source`, or a name that cannot be a folder.
    """
    root = source.resolve()
    plan: Plan = {}
    stems: set[str] = set()
    groups: dict[str, str] = {}
    for record in records:
        own = record.name or record.image.stem
        for name in (record.category, record.defect, own):
            _check_part(name, record.image)
        stem = own
        place = f"{record.category}/{record.split}/{record.defect}"
        # 7.jpg and 7.png are two images: their masks must not become one.
        number = 2
        while f"{place}/{stem}".casefold() in stems:
            stem, number = f"{own}-{number}", number + 1
        stems.add(f"{place}/{stem}".casefold())
        path = f"{place}/{stem}{'.png' if record.crop else record.image.suffix}"
        plan[path] = _part(within(root, record.image), record, False)
        if record.group:
            groups[path] = record.group
        if record.mask is not None:
            suffix = ".png" if record.crop else record.mask.suffix.lower()
            mask_path = f"{record.category}/ground_truth/{record.defect}/{stem}_mask{suffix}"
            plan[mask_path] = _part(within(root, record.mask), record, True)
    if groups:
        plan[GROUPS] = Text(groups_text(groups))
    if licence is not None:
        plan[licence.name] = Copy(licence)
    return plan


def within(root: Path, path: Path) -> Path:
    """`path`, which must be a file whose links, if any, stay below `root` (resolved)."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise FlawlineError(f"{path} is a link that leads to itself", "remove the link") from error
    if not real.is_relative_to(root):
        raise FlawlineError(
            f"{path} is a link that leaves {root.name}", "put a copy of the file in its place"
        )
    if not real.is_file():
        raise FlawlineError(
            f"{path} is a link to a file that is missing", "remove the link or restore the file"
        )
    return path


def digest(file: Path) -> str:
    """SHA-256 of a file, 64 hex digits; one that cannot be read is a FlawlineError that names it."""
    try:
        return sha256_file(file)
    except OSError as error:
        raise FlawlineError(
            f"cannot read {file}: {error.strerror}", "fix its permissions or remove it"
        ) from error


def _part(file: Path, record: Record, is_mask: bool) -> Part:
    return Copy(file) if record.crop is None else Piece(file, record.crop, is_mask)


@lru_cache(maxsize=4)  # the pieces of one image come one after the other
def _whole(file: Path, is_mask: bool) -> Image.Image:
    return Image.fromarray(load_mask(file).astype(np.uint8) * 255) if is_mask else load_rgb(file)


def _check_part(name: str, image: Path) -> None:
    if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
        raise FlawlineError(f"{name!a}, the name for {image}, cannot be a folder", "rename it")
