"""How data sets lie in folders. A layout turns a source folder into records; adding one is one class here.

Write a class with `name`, `expects`, `matches` and `records`, decorate it with `@register`: then
`--layout NAME` and `--layout auto` know it. Layouts are tried in the order of this file.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flawline.data.images import is_image_name
from flawline.errors import FlawlineError

GOOD = "good"
TRAIN_SHARE = 0.7  # of the good images, where a layout does not say what trains
_MASK_SEPARATORS = "_-. "


@dataclass(frozen=True, order=True)
class Record:
    """One image of a data set: what it shows, on which side it stands, and where it and its mask lie."""

    category: str
    split: str  # train | test
    defect: str  # `good` or a type
    image: Path
    mask: Path | None = None


class Layout(Protocol):
    """A way to arrange images in folders."""

    name: str
    expects: str  # one line for error messages

    def matches(self, root: Path) -> bool:
        """Whether `root` looks like this layout; names of folders only, no image is opened."""

    def records(self, root: Path) -> Iterator[Record]:
        """Every image below `root`. Raises FlawlineError where the folders contradict the layout."""


LAYOUTS: dict[str, Layout] = {}


def register(layout: type) -> type:
    """Class decorator: makes a layout known under its name."""
    LAYOUTS[layout.name] = layout()  # type: ignore[attr-defined]
    return layout


def read_layout(root: Path, layout: str = "auto") -> tuple[str, list[Record]]:
    """(layout name, sorted records) of a folder.

    Raises:
        FlawlineError: unknown layout name, a folder that fits none, or no image in it.
    """
    if layout == "auto":
        chosen = recognise(root)
    elif layout in LAYOUTS:
        chosen = LAYOUTS[layout]
    else:
        raise FlawlineError(f"unknown layout '{layout}'", f"use auto or one of: {', '.join(LAYOUTS)}")
    if not chosen.matches(root):
        raise FlawlineError(
            f"{root} is not in layout {chosen.name}: {_found(root)}", f"expected {chosen.expects}"
        )
    records = sorted(chosen.records(root), key=lambda r: (r.category, r.split, r.defect, r.image.as_posix()))
    if not records:
        raise FlawlineError(
            f"{root} has the folders of layout {chosen.name} but no image", "put images into it"
        )
    return chosen.name, records


def recognise(folder: Path) -> Layout:
    """The first layout that matches.

    Raises:
        FlawlineError: none does; shows what was found and what is expected.
    """
    if not folder.is_dir():
        raise FlawlineError(f"{folder} is not a folder", "name an existing folder with images")
    for layout in LAYOUTS.values():
        if layout.matches(folder):
            return layout
    expected = "; or ".join(f"{layout.name}: {layout.expects}" for layout in LAYOUTS.values())
    raise FlawlineError(f"unknown layout of {folder}: {_found(folder)}", f"expected {expected}")


@register
class Mvtec:
    """MVTec AD's layout, also that of MPDD and of every data set below data/."""

    name = "mvtec"
    expects = (
        "<category>/train/good, <category>/test/{good,<defect>}, "
        "<category>/ground_truth/<defect>/<stem>_mask.png"
    )

    def matches(self, root: Path) -> bool:
        return self._is_category(root) or any(self._is_category(folder) for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        categories = [root] if self._is_category(root) else folders(root)
        for folder in categories:  # without train/good as well: the checks have to see what is missing
            category = folder.resolve().name if folder == root else folder.name
            for defect in folders(folder / "train"):
                if defect.name != GOOD:
                    raise FlawlineError(
                        f"{defect}: training folders hold good images only", f"move it to {folder / 'test'}"
                    )
                yield from (Record(category, "train", GOOD, image) for image in images(defect))
            for defect in folders(folder / "test"):
                shown = images(defect)
                masks = (
                    {} if defect.name == GOOD else match_masks(shown, folder / "ground_truth" / defect.name)
                )
                yield from (Record(category, "test", defect.name, image, masks.get(image)) for image in shown)

    @staticmethod
    def _is_category(folder: Path) -> bool:
        return (folder / "train" / GOOD).is_dir() or (folder / "test" / GOOD).is_dir()


@register
class Folder:
    """A user's own folder: good images and one folder a defect type, masks where there are any.

    Good images go to training or test by the hash of their content, about 70 to 30: the choice stays
    the same when images are added, and copies of one image always stand on the same side.
    """

    name = "folder"
    expects = "good/* and <defect>/* with optional masks/<defect>/<stem>*.png, or the same below <category>/"

    def matches(self, root: Path) -> bool:
        return (root / GOOD).is_dir() or any((folder / GOOD).is_dir() for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
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
            if defect.name == GOOD:
                yield from (Record(category, _split(image), GOOD, image) for image in shown)
            else:
                masks = match_masks(shown, folder / "masks" / defect.name)
                yield from (Record(category, "test", defect.name, image, masks.get(image)) for image in shown)


def folders(root: Path) -> list[Path]:
    """The visible folders directly below `root`, sorted by name; none where `root` is missing."""
    return [path for path in _entries(root) if path.is_dir()]


def images(root: Path) -> list[Path]:
    """Everything directly below `root` that is named like an image (dangling links too), sorted by name."""
    found = [path for path in _entries(root) if is_image_name(path)]
    return [path for path in found if not path.is_dir() and (path.is_file() or path.is_symlink())]


def match_masks(shown: list[Path], folder: Path) -> dict[Path, Path]:
    """Masks of `folder` by image: a mask belongs to the longest image stem that starts its own.

    `7.png`, `7_mask.png` and `7-label.png` belong to `7.jpg`; `7_1.png` to `7_1.jpg` if there is one.

    Raises:
        FlawlineError: two masks for one image.
    """
    by_stem: dict[str, list[Path]] = {}
    for image in shown:
        by_stem.setdefault(_stem(image), []).append(image)
    found: dict[Path, Path] = {}
    for mask in images(folder):
        stem = _stem(mask)
        cuts = [i for i in range(len(stem) - 1, 0, -1) if stem[i] in _MASK_SEPARATORS]
        owner = next((part for part in (stem, *(stem[:cut] for cut in cuts)) if part in by_stem), None)
        for image in by_stem.get(owner, []) if owner is not None else []:
            if image in found:
                raise FlawlineError(
                    f"{image} has two masks: {found[image].name} and {mask.name}", "keep one of them"
                )
            found[image] = mask
    return found


def _entries(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    for path in visible:
        try:
            path.name.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            raise FlawlineError(f"{shown}: the name is not UTF-8", "rename the file") from None
    return sorted(visible, key=lambda path: path.name)


def _stem(path: Path) -> str:
    # Copies that went through macOS spell é as e + accent: compare what people read.
    return unicodedata.normalize("NFC", path.stem)


def _split(image: Path) -> str:
    try:
        with image.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise FlawlineError(f"cannot read {image}: {error.strerror}", "fix or remove the file") from error
    return "train" if int.from_bytes(digest[:4], "big") < TRAIN_SHARE * 2**32 else "test"


def _found(folder: Path) -> str:
    inner = [path.name for path in folders(folder)]
    loose = len(images(folder))
    names = f"folders {', '.join(inner[:8])}{', …' if len(inner) > 8 else ''}" if inner else "no folders"
    return f"found {names}" + (f" and {loose} images directly in it" if loose else "")
