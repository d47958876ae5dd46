"""A person accepts a review item: its images go the way of labelled ones."""

import shutil
import tempfile
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.watch.intake import Added, add_defect
from flawline.watch.items import open_item, reject
from flawline.watch.review import write_decided, write_index
from flawline.watch.state import ACCEPTED, Crop, Item, State
from flawline.workspace import Workspace


def accept(
    workspace: Workspace,
    settings: Settings,
    number: int,
    category: str,
    name: str | None = None,
    words: str | None = None,
    dataset: str | None = None,
    masks: Path | None = None,
) -> Added:
    """Make the images of an open item labelled ones, by `add_defect`, and close the item.

    Killed in between, the same command goes on: what was added is found there, and only the item is still open.

    Args:
        workspace: whose review items and data.
        settings: of it.
        number: the item.
        category, dataset, masks: as of `add_defect`.
        name, words: None: as suggested.

    Raises:
        FlawlineError: see `open_item` and `add_defect`; the item's images are gone.
    """
    with State(workspace.state / "watch") as state:
        item = open_item(state, number)
        name = name or item.name
        said = words or (item.words if name == item.name else None)
        with tempfile.TemporaryDirectory(dir=workspace.state) as scratch:
            folder = Path(scratch)
            _copied(state, state.crops(item=number), folder)
            added = add_defect(workspace, settings, name, [folder], category, said, dataset, masks)
        place = f"{added.place.dataset}/{added.place.category}"
        with state.writing():
            state.decide(number, ACCEPTED, name, added.words, place)
        _closed(workspace, state, number)
    return added


def turn_down(workspace: Workspace, number: int) -> Item:
    """Reject an open item: what looks like it is not asked again.

    Raises:
        FlawlineError: see `open_item`.
    """
    with State(workspace.state / "watch") as state:
        item = reject(state, number)
        _closed(workspace, state, number)
    return item


def _copied(state: State, crops: list[Crop], folder: Path) -> None:
    """The item's images under the names that they came with."""
    taken: set[str] = set()
    for crop in crops:
        source = state.images_folder / crop.file
        if not source.is_file():
            raise FlawlineError(
                f"{source} is gone, an image of this item",
                "add the images with `flawline defect add` instead",
            )
        path = Path(crop.name)
        stem, number = path.stem, 2
        while f"{stem}{source.suffix}".casefold() in taken:
            stem, number = f"{path.stem}-{number}", number + 1
        taken.add(f"{stem}{source.suffix}".casefold())
        shutil.copyfile(source, folder / f"{stem}{source.suffix}")


def _closed(workspace: Workspace, state: State, number: int) -> None:
    from flawline.watch.drift import Drift

    item = next(one for one in state.items() if one.number == number)
    write_decided(workspace, item)
    write_index(workspace, state, Drift(0, 0, why="the next look says"))
