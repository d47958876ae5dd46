"""A new defect type, labelled: checked, copied below data/, its words written down, versioned; whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flawline.data.ingest import CARD, clear_partials, refresh_card
from flawline.data.layouts.listing import images
from flawline.data.manifest import build_manifest
from flawline.data.vocabulary import added_types, load_vocabulary, set_defect_words
from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX
from flawline.settings import Settings
from flawline.watch.gather import Gathered, Piece, Place, find_place, gather
from flawline.watch.undo import one_at_a_time, undoable
from flawline.workspace import Workspace


@dataclass(frozen=True)
class Added:
    """What `add_defect` did.

    Attributes:
        place: where the type stands now. words: what it is called.
        images: taken in now. there: of the given ones, stood there already.
        files: all images and masks of the type at this place, sorted: what an event tells of.
        new_type: whether the category did not have the type before this run or an earlier one of this command.
        undone: whether something that a killed run had left was taken back first.
    """

    place: Place
    words: str
    images: int
    there: int
    files: list[Path]
    new_type: bool
    undone: bool


def add_defect(
    workspace: Workspace,
    settings: Settings,
    name: str,
    sources: Sequence[str | Path],
    category: str,
    words: str | None = None,
    dataset: str | None = None,
    masks: Path | None = None,
    version: Callable[[Workspace], bool] | None = None,
) -> Added:
    """Take labelled images of a defect type into a data set. The sources are only read.

    The same images again change nothing. After a failure, also a kill -9, data/, vocabulary.yaml and data.dvc are what
    they were (after a kill: from the next call on).

    Args:
        workspace: whose data/, vocabulary.yaml and data.dvc.
        settings: which data sets are in use, limits on images.
        name: the type's folder name.
        sources: image files, folders, s3:// prefixes.
        category: of the data set.
        words: what the type is called; None: as vocabulary.yaml has it, else the folder's name.
        dataset: folder below data/; None: the only one in use that has the category.
        masks: folder with masks, matched by stem; None: there are none.
        version: brings data.dvc up to date; None: `flawline.data.versioning.track_data`.

    Raises:
        FlawlineError: see `find_place` and `gather`; the data with the new images fails its checks; DVC fails.
    """
    if version is None:
        from flawline.data.versioning import track_data

        version = track_data
    with one_at_a_time(workspace) as undone, ExitStack() as opened_sources:
        clear_partials(workspace.data)
        place = find_place(workspace, settings, name, category, dataset)
        said = _words(workspace, place, words)
        found = gather(workspace, settings, place, sources, masks, opened_sources)
        had = bool(images(place.folder(workspace)))
        listed = (place.dataset, place.defect) in added_types(workspace.data, [place.dataset])
        if found.pieces or not load_vocabulary(workspace.vocabulary).knows(place.dataset, name):
            _take_in(workspace, settings, place, said, found, version)
        else:
            version(workspace)  # an earlier run may have been killed just before
        files = [*images(place.folder(workspace)), *images(place.masks(workspace))]
        fresh = not had or listed
        return Added(place, said, len(found.pieces), found.there, sorted(files), fresh, undone)


def _words(workspace: Workspace, place: Place, given: str | None) -> str:
    words = " ".join((given or "").split())
    if given is not None and not 0 < len(words) <= 80:
        raise FlawlineError(
            "--words are empty or longer than 80 letters", 'say it in a few words: "burn mark"'
        )
    return words or load_vocabulary(workspace.vocabulary).defect_words(place.dataset, place.defect)


def _take_in(
    workspace: Workspace,
    settings: Settings,
    place: Place,
    words: str,
    found: Gathered,
    version: Callable[[Workspace], bool],
) -> None:
    partial = workspace.data / f".{place.defect}.{os.getpid()}{PARTIAL_SUFFIX}"
    moves = _staged(workspace, place, found.pieces, partial)
    card = workspace.data / place.dataset / CARD
    changed = [workspace.vocabulary, card, workspace.root / "data.dvc"]
    created = [_topmost_missing(target) for _, target in moves]
    try:
        with undoable(workspace, list(dict.fromkeys(created)), changed):
            for source, target in moves:
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
            set_defect_words(workspace.vocabulary, place.dataset, place.defect, words)
            added = {defect for _, defect in added_types(workspace.data, [place.dataset])}
            is_new = any(path.is_dir() for path in created) or place.defect in added
            more = {"added": sorted({*added, place.defect})} if is_new else {}
            refresh_card(workspace.data / place.dataset, **more)
            _validate(workspace, settings, place)
            version(workspace)
    except OSError as error:
        raise FlawlineError(
            f"cannot write below {workspace.data}: {error.strerror or error}",
            "free some disk space or fix its permissions, then run again: nothing was added",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _staged(
    workspace: Workspace, place: Place, pieces: list[Piece], partial: Path
) -> list[tuple[Path, Path]]:
    """Copy everything beside its place; (copy, target) of what then only has to be renamed."""
    files: list[tuple[Path, Path]] = []
    for folder, of in (("test", place.folder(workspace)), ("ground_truth", place.masks(workspace))):
        mine = [
            (source, f"{piece.stem}{'_mask' if folder != 'test' else ''}{source.suffix.lower()}")
            for piece in pieces
            if (source := piece.image if folder == "test" else piece.mask) is not None
        ]
        if not mine:
            continue
        (partial / folder).mkdir(parents=True)
        for source, name in mine:
            shutil.copyfile(source, partial / folder / name)
        if of.exists():
            files += [(partial / folder / name, of / name) for _, name in mine]
        else:
            files.append((partial / folder, of))  # a whole folder appears at once
    return files


def _topmost_missing(path: Path) -> Path:
    """The highest folder that has to be made for a path, or the path itself."""
    while not path.parent.exists():
        path = path.parent
    return path


def _validate(workspace: Workspace, settings: Settings, place: Place) -> None:
    """The line's own checks on the data as it is now."""
    from flawline.checks.run import run_checks

    names = sorted({*settings.data.all, place.dataset})
    there = [name for name in names if (workspace.data / name).is_dir()]
    table = build_manifest(workspace.data, there, settings.data.max_pixels)
    with tempfile.TemporaryDirectory(dir=workspace.state) as scratch:
        pages = Path(scratch) / "docs"
        words = load_vocabulary(workspace.vocabulary)
        summary = run_checks(table, settings, words, workspace.data, pages)
    broken = summary.broken("critical")
    if broken:
        first = broken[0].offenders[0] if broken[0].offenders else broken[0].what
        more = sum(len(finding.offenders) for finding in broken) - 1
        raise FlawlineError(
            f"with these images the data fails its checks: {first}" + (f" (and {more} more)" if more else ""),
            f"{broken[0].remedy}; nothing was added",
        )
