"""What a layout is, and which one a folder has. Adding one is one class in this package.

Write a class with `name`, `expects`, `matches` and `records` in a file of its own, decorate it with `@register` and
import the file in this package's __init__: then `--layout NAME` and `--layout auto` know it. Layouts are tried in the
order of those imports. A class may also have `licence` (the licence that the publisher states) and
`facts(root, records)` (a dict of what else dataset.json shall keep).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flawline.data.groups import GROUPS, read_groups
from flawline.data.layouts.listing import folders, found_in, images
from flawline.errors import FlawlineError

GOOD = "good"
_WRAPPINGS = 3  # folders around a data set that `read_source` looks through


@dataclass(frozen=True)
class Record:
    """One image of a data set: what it shows, on which side it stands, and where it and its mask lie.

    Attributes:
        category, defect: folder names; `defect` is `good` or a type.
        split: `train` or `test`.
        image, mask: the files; `mask` is None where there is none.
        group: name of what images have in common (views of one part, near-duplicates); None: nothing known.
        name: stem of the image below data/, where the file's own would not do.
        crop: (left, upper, right, lower) in pixels: the record is this piece of image and mask; None: all.
    """

    category: str
    split: str
    defect: str
    image: Path
    mask: Path | None = None
    group: str | None = None
    name: str | None = None
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Reading:
    """A data set as it was read: by which layout, from which folder, its images, and facts for dataset.json."""

    layout: str
    root: Path
    records: list[Record]
    facts: dict[str, Any]


class Layout(Protocol):
    """A way to arrange images in folders."""

    name: str
    expects: str  # one line for error messages

    def matches(self, root: Path) -> bool:
        """Whether `root` looks like this layout; names of files only, no image is opened."""

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
    chosen = _chosen(root, layout)
    return chosen.name, _sorted_records(chosen, root)


def read_source(root: Path, layout: str = "auto") -> Reading:
    """As `read_layout`, for what a user brings: looks through folders that only wrap a data set, keeps facts."""
    inner = unwrapped(root, list(LAYOUTS.values()) if layout == "auto" else [_named(layout)])
    chosen = _chosen(inner, layout)
    records = _sorted_records(chosen, inner)
    listed = set(read_groups(inner)) - {record.image.relative_to(inner).as_posix() for record in records}
    if listed:
        raise FlawlineError(
            f"{inner / GROUPS} names {min(listed)}, which is no image of the data set", "correct that line"
        )
    facts: dict[str, Any] = {}
    if getattr(chosen, "licence", None):
        facts["licence_published"] = chosen.licence  # type: ignore[attr-defined]
    if hasattr(chosen, "facts"):
        facts.update(chosen.facts(inner, records))
    return Reading(chosen.name, inner, records, facts)


def unwrapped(root: Path, layouts: list[Layout]) -> Path:
    """The first folder that one of `layouts` matches: `root`, or its only folder, or that one's; else `root`."""
    folder = root
    for _ in range(_WRAPPINGS + 1):
        if any(layout.matches(folder) for layout in layouts):
            return folder
        inner = folders(folder)
        if len(inner) != 1 or images(folder):
            break
        folder = inner[0]
    return root


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
    own = [f"{LAYOUTS[name].name}: {LAYOUTS[name].expects}" for name in ("mvtec", "folder")]
    others = ", ".join(sorted(set(LAYOUTS) - {"mvtec", "folder"}))
    raise FlawlineError(
        f"unknown layout of {folder}: {found_in(folder)}",
        f"expected {'; or '.join(own)}; or the published shape of {others} (docs/data.md)",
    )


def left_out(what: str, number: int) -> dict[str, Any]:
    """The fact that `number` images of the source are not taken in, `what` says which; empty for none."""
    return {"left_out": {what: number}} if number else {}


def _named(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise FlawlineError(f"unknown layout '{layout}'", f"use auto or one of: {', '.join(LAYOUTS)}")
    return LAYOUTS[layout]


def _chosen(root: Path, layout: str) -> Layout:
    if layout == "auto":
        return recognise(root)
    chosen = _named(layout)
    if not root.is_dir():
        raise FlawlineError(f"{root} is not a folder", "name an existing folder with images")
    if not chosen.matches(root):
        raise FlawlineError(
            f"{root} is not in layout {chosen.name}: {found_in(root)}", f"expected {chosen.expects}"
        )
    return chosen


def _sorted_records(layout: Layout, root: Path) -> list[Record]:
    records = sorted(
        layout.records(root),
        key=lambda r: (r.category, r.split, r.defect, r.image.as_posix(), r.crop or ()),
    )
    if not records:
        raise FlawlineError(
            f"{root} has the folders of layout {layout.name} but no image", "put images into it"
        )
    return records
