"""Looking for new defect types: folders test/<type> in data/ that no finished retraining knows.

What is known is read from the last retraining's image table; before the first one, from the version that data.dvc
names. A type is new for a category: one that a sister category has known for long is new evidence all the same.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flawline.data.layouts import GOOD, folders, images
from flawline.errors import FlawlineError
from flawline.files import read_parquet
from flawline.line.pipeline import quiet
from flawline.new_types import events
from flawline.settings import Settings
from flawline.workspace import Workspace

Known = set[tuple[str, str, str]]  # data set, category, type
Stamp = tuple[str, int, int, int, int]  # path below data/, size, mtime and ctime in ns, inode


@dataclass(frozen=True)
class NewType:
    """A type that a data set has and no finished retraining knows.

    Attributes:
        dataset: folder below data/.
        defect: the type's name.
        categories: which have it, sorted.
        images: how many there are.
        files: images and masks, sorted.
        stamps: what tells that a file changed; compared with an earlier look, never with a clock.
    """

    dataset: str
    defect: str
    categories: tuple[str, ...]
    images: int
    files: tuple[Path, ...]
    stamps: tuple[Stamp, ...] = field(repr=False)

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.defect} in {self.dataset} ({', '.join(self.categories)}; {self.images} images)"


def look(workspace: Workspace, settings: Settings) -> list[NewType]:
    """The new types that the data sets of params.yaml have now, sorted; empty folders are none.

    Returns:
        Nothing as well where nothing was ever trained or versioned: then there is nothing to be new against.
    """
    known = known_types(workspace)
    if known is None:
        return []
    retry = {(told["dataset"], told["defect"]) for told in events.unanswered(workspace).values()}
    found: dict[tuple[str, str], list[tuple[str, list[Path], int]]] = {}
    for dataset in settings.data.all:
        for category, folder, masks in _type_folders(workspace.data / dataset):
            defect = folder.name
            # A retraining that failed after its table was made has not answered: mended data is looked at again.
            if (dataset, category, defect) in known and (dataset, defect) not in retry:
                continue
            shown = images(folder)
            if shown:
                found.setdefault((dataset, defect), []).append(
                    (category, [*shown, *images(masks)], len(shown))
                )
    new = []
    for (dataset, defect), parts in sorted(found.items()):
        files = tuple(sorted(file for _, some, _ in parts for file in some))
        new.append(
            NewType(
                dataset=dataset,
                defect=defect,
                categories=tuple(sorted(category for category, _, _ in parts)),
                images=sum(number for _, _, number in parts),
                files=files,
                stamps=tuple(stamp for file in files if (stamp := _stamp(workspace, file))),
            )
        )
    return new


def known_types(workspace: Workspace) -> Known | None:
    """What the last retraining, or else the version in data.dvc, has; None where there is neither."""
    if workspace.manifest.is_file():
        try:
            table = read_parquet(workspace.manifest)
            tested = table[table["split"] == "test"]
            return {
                (str(dataset), str(category), str(defect))
                for dataset, category, defect in zip(
                    tested["dataset"], tested["category"], tested["defect"], strict=True
                )
            }
        except FlawlineError:  # it is being made anew right now, or was cut off: the version tells as well
            pass
    return _versioned(workspace)


def _versioned(workspace: Workspace) -> Known | None:
    """The types in the listing that data.dvc names, from DVC's cache or its remote."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    pointer = workspace.root / "data.dvc"
    if not pointer.is_file():
        return None
    try:
        with quiet(), Repo(str(workspace.root)) as repo:
            [stage] = repo.stage.collect(str(pointer))
            listing = stage.outs[0].get_obj()
            if listing is None:
                return None
            parts = [tuple(key) for key, _, _ in listing]
    except (DvcException, OSError, ValueError):
        return None
    known = set()
    for dataset, *inner in (part for part in parts if len(part) >= 4):
        where = dataset if inner[0] == "test" else inner[0]  # a data set may be one category
        if inner[-3] == "test":
            known.add((dataset, where, inner[-2]))
    return known


def _type_folders(dataset: Path) -> list[tuple[str, Path, Path]]:
    """(category, folder of the type, folder of its masks) in MVTec layout, sorted."""
    single = (dataset / "test").is_dir()
    found = []
    for category in [dataset] if single else folders(dataset):
        for folder in folders(category / "test"):
            if folder.name != GOOD:
                found.append((category.name, folder, category / "ground_truth" / folder.name))
    return found


def _stamp(workspace: Workspace, file: Path) -> Stamp | None:
    """None where the file is gone meanwhile: then the next look is another one."""
    try:
        state = file.stat()
    except OSError:
        return None
    place = file.relative_to(workspace.data).as_posix()
    return place, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
