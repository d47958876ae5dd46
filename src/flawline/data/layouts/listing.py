"""Looking into folders: sorted, hidden files passed over, masks matched by stem."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from flawline.data.images import is_image_name
from flawline.errors import FlawlineError

_MASK_SEPARATORS = "_-. "
_FOREIGN = frozenset({"__MACOSX"})  # what archives made on macOS hold beside the pictures


def folders(root: Path) -> list[Path]:
    """The visible folders directly below `root`, sorted by name; none where `root` is missing."""
    return [root / entry.name for entry in _entries(root) if _is(entry.is_dir)]


def images(root: Path) -> list[Path]:
    """Everything directly below `root` that is named like an image (dangling links too), sorted by name."""
    return [
        root / entry.name
        for entry in _entries(root)
        if is_image_name(Path(entry.name))
        and not _is(entry.is_dir)
        and (_is(entry.is_file) or entry.is_symlink())
    ]


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


def there(root: Path, names: list[str], listed_in: str) -> list[Path]:
    """`root / name` for every name that a data set's own list gives; each must be a file below `root`.

    Raises:
        FlawlineError: a name leads outside, or files are missing; the first is named, the others counted.
    """
    paths = []
    missing = []
    for name in names:
        parts = name.split("/")
        if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
            raise FlawlineError(
                f"{listed_in} names '{name}', which leads outside {root}", "correct that line"
            )
        path = root / name
        paths.append(path)
        if not path.is_file():
            missing.append(name)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise FlawlineError(
            f"{root}: {listed_in} names {missing[0]}{more}, which is missing",
            "restore the files, or the list",
        )
    return paths


def found_in(folder: Path) -> str:
    """A few words for error messages: the folders of `folder`, and how many loose images."""
    inner = [path.name for path in folders(folder)]
    loose = len(images(folder))
    names = f"folders {', '.join(inner[:8])}{', …' if len(inner) > 8 else ''}" if inner else "no folders"
    return f"found {names}" + (f" and {loose} images directly in it" if loose else "")


def _entries(root: Path) -> list[os.DirEntry[str]]:
    """A listing knows what is a folder: asking each of 20,000 paths takes seconds."""
    if not root.is_dir():
        return []
    with os.scandir(root) as listing:
        visible = [entry for entry in listing if entry.name[0] != "." and entry.name not in _FOREIGN]
    for entry in visible:
        try:
            entry.name.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
            raise FlawlineError(f"{shown}: the name is not UTF-8", "rename the file") from None
    return sorted(visible, key=lambda entry: entry.name)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link that leads to itself is neither
        return False


def _stem(path: Path) -> str:
    # Copies that went through macOS spell é as e + accent: compare what people read.
    return unicodedata.normalize("NFC", path.stem)
