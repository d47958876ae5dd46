"""Taking in a data set: any known layout becomes MVTec layout below data/, whole or not at all.

Broken images are taken in as they are: the checks name every one of them, which is more use than the first.
"""

import hashlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flawline.data.images import IMAGE_SUFFIXES
from flawline.data.layouts import Record, read_layout, read_source
from flawline.data.plan import Plan, digest, make_plan
from flawline.data.sources import Source, opened, runs
from flawline.data.storage import SCHEME
from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX, atomic_folder, read_json, write_json
from flawline.progress import track
from flawline.settings import Name
from flawline.workspace import Workspace

CARD = "dataset.json"
_LICENCES = ("LICENSE", "LICENCE", "COPYING")


def add_dataset(
    workspace: Workspace, source: Path | str, name: str, layout: str = "auto", replace: bool = False
) -> dict[str, Any]:
    """Bring a data set to data/<name>/ in MVTec layout. The source is only read; data.dvc is not touched.

    The copy is made beside its place and then renamed. The same content again changes nothing.

    Args:
        workspace: where data/ lies.
        source: a folder, a .zip or .tar archive, or the text `s3://bucket/prefix`; see flawline.data.sources.
        name: the data set's name, as in params.yaml.
        layout: `auto` or a name of flawline.data.layouts.LAYOUTS.
        replace: whether other content may take the place of what stands under this name.

    Returns:
        The content of dataset.json, and `name`, `added` (False: was there already), `message` (a sentence).

    Raises:
        FlawlineError: bad name, unknown layout, a link that leaves the source, an unsafe archive, a bucket that
            cannot be read, other content under this name.
    """
    _check_name(name)
    if not str(source).startswith(SCHEME) and Path(source).resolve().is_relative_to(workspace.data.resolve()):
        raise FlawlineError(f"{source} lies inside {workspace.data}", "name the folder the images come from")
    clear_partials(workspace.data)
    with opened(workspace, source) as origin:
        return _take_in(workspace.data / name, origin, layout, replace)


def _take_in(target: Path, origin: Source, layout: str, replace: bool) -> dict[str, Any]:
    reading = read_source(origin.folder, layout)
    licence = _licence(origin, reading.root)
    plan = make_plan(origin.folder, reading.records, licence)
    name = target.name
    digests = {path: part.sha256() for path, part in track(plan.items(), f"reading {name}", len(plan))}
    content = _content(digests)
    card = {
        "source": origin.told,
        "layout": reading.layout,
        "licence": licence.name if licence else None,
        "counts": _counts(reading.records),
        "sha256": content,
        **reading.facts,
    }
    images = len(reading.records)
    if target.exists():
        if (target / CARD).is_file() and _content_of_folder(target) == content:
            message = f"{name} already holds exactly these {images} images: nothing to do"
            return {"name": name, "added": False, "message": message, **read_json(target / CARD)}
        if not replace:
            raise FlawlineError(
                f"{target} already holds other content",
                "choose another --name, or add --replace to replace it",
            )
    _copy(plan, target, card)
    masks = sum(record.mask is not None for record in reading.records)
    message = f"added {name}: {images} images, {masks} masks (layout {reading.layout})"
    for what, number in reading.facts.get("left_out", {}).items():
        message += f"; left out: {number} {what}"
    return {"name": name, "added": True, "message": message, **card}


def list_datasets(workspace: Workspace) -> list[dict[str, Any]]:
    """What stands below data/, sorted by name.

    Returns:
        One dict a folder: `name`, `images` (int), `categories` (sorted names), `counts` as in dataset.json
        but of the folder now, `problem` (a clause or null), and from dataset.json `source`, `layout`,
        `licence` and `sha256` (null for a folder that `flawline data add` did not make).
    """
    found = []
    for folder in sorted(path for path in workspace.data.glob("[!.]*") if path.is_dir()):
        problem: str | None = None
        counts: dict[str, dict[str, dict[str, int]]] = {}
        card: dict[str, Any] = {}
        try:
            counts = _counts(read_layout(folder, "mvtec")[1])
            card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
        except FlawlineError as error:
            problem = error.problem
        images = sum(n for splits in counts.values() for defects in splits.values() for n in defects.values())
        known = {key: card.get(key) for key in ("source", "layout", "licence", "sha256")}
        named = {"name": folder.name, "images": images, "categories": sorted(counts)}
        found.append({**named, **known, "counts": counts, "problem": problem})
    return found


def refresh_card(folder: Path, **facts: Any) -> None:
    """Bring a data set's dataset.json up to date with its folder: counts, hash, and `facts`.

    A folder without one gets none: nobody would know where it came from.
    """
    path = folder / CARD
    if path.is_file():
        counts = _counts(read_layout(folder, "mvtec")[1])
        write_json(path, {**read_json(path), "counts": counts, "sha256": _content_of_folder(folder), **facts})


def clear_partials(data: Path) -> None:
    """Remove what a killed `add_dataset` left below data/, so that it is never versioned."""
    for folder in data.glob(f".*{PARTIAL_SUFFIX}"):
        process = folder.name.removesuffix(PARTIAL_SUFFIX).rpartition(".")[2]
        if process.isdecimal() and not runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise FlawlineError(
            f"'{name}' cannot name a data set", "use letters, digits, '.', '_' and '-', at most 64"
        ) from None


def _licence(origin: Source, root: Path) -> Path | None:
    """The first licence file of the data set's folder, of those around it in the source, or beside a plain folder."""
    top = origin.folder.resolve()
    places = [folder for folder in (root.resolve(), *root.resolve().parents) if folder.is_relative_to(top)]
    for folder in [*places, top.parent] if origin.above else places:
        try:
            files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
        except OSError:  # a parent need not be readable
            continue
        for file in files:
            if file.name.upper().startswith(_LICENCES) and file.suffix.lower() not in IMAGE_SUFFIXES:
                return file
    return None


def _counts(records: list[Record]) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (category, split, defect), n in sorted(
        Counter((r.category, r.split, r.defect) for r in records).items()
    ):
        counts.setdefault(category, {}).setdefault(split, {})[defect] = n
    return counts


def _content(digests: dict[str, str]) -> str:
    """SHA-256 over the sorted names and contents of a data set, dataset.json left out."""
    digest = hashlib.sha256()
    for path in sorted(digests):
        digest.update(f"{path}\0{digests[path]}\n".encode())
    return digest.hexdigest()


def _content_of_folder(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / CARD]
    return _content({file.relative_to(folder).as_posix(): digest(file) for file in files})


def _copy(plan: Plan, target: Path, card: dict[str, Any]) -> None:
    with atomic_folder(target) as partial:
        for path, part in track(plan.items(), f"copying to {target.name}", len(plan)):
            place = partial / path
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write(place)
        write_json(partial / CARD, card)
