"""Taking in a data set: any known layout becomes MVTec layout below data/, whole or not at all.

Broken images are taken in as they are: the checks name every one of them, which is more use than the first.
"""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flawline.data.images import IMAGE_SUFFIXES
from flawline.data.layouts import Record, read_layout
from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX, atomic_folder, read_json, sha256_file, write_json
from flawline.progress import track
from flawline.settings import Name
from flawline.workspace import Workspace

CARD = "dataset.json"
_LICENCES = ("LICENSE", "LICENCE", "COPYING")

Plan = dict[str, Path]  # path below data/<name> → source file


def add_dataset(
    workspace: Workspace, source: Path, name: str, layout: str = "auto", replace: bool = False
) -> dict[str, Any]:
    """Copy a folder into data/<name>/ in MVTec layout. The source is only read; data.dvc is not touched.

    The copy is made beside its place and then renamed. The same content again changes nothing.

    Args:
        workspace: where data/ lies.
        source: the folder to take in.
        name: the data set's name, as in params.yaml.
        layout: `auto` or a name of flawline.data.layouts.LAYOUTS.
        replace: whether other content may take the place of what stands under this name.

    Returns:
        The content of dataset.json, and `name`, `added` (False: was there already), `message` (a sentence).

    Raises:
        FlawlineError: bad name, unknown layout, a link that leaves the source, other content under this name.
    """
    _check_name(name)
    source = Path(source)
    target = workspace.data / name
    if source.resolve().is_relative_to(workspace.data.resolve()):
        raise FlawlineError(f"{source} lies inside {workspace.data}", "name the folder the images come from")
    clear_partials(workspace.data)
    used, records = read_layout(source, layout)
    licence = _licence(source)
    plan = _plan(source, records, licence)
    digests = {path: _digest(file) for path, file in track(plan.items(), f"reading {source.name}", len(plan))}
    content = _content(digests)
    card = {
        "source": source.resolve().name,
        "layout": used,
        "licence": licence.name if licence else None,
        "counts": _counts(records),
        "sha256": content,
    }
    if target.exists():
        if _content_of_folder(target) == content and (target / CARD).is_file():
            message = f"{name} already holds exactly these {len(records)} images: nothing to do"
            return {"name": name, "added": False, "message": message, **read_json(target / CARD)}
        if not replace:
            raise FlawlineError(
                f"{target} already holds other content",
                "choose another --name, or add --replace to replace it",
            )
    _copy(plan, target, card)
    masks = sum(record.mask is not None for record in records)
    message = f"added {name}: {len(records)} images, {masks} masks (layout {used})"
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


def clear_partials(data: Path) -> None:
    """Remove what a killed `add_dataset` left below data/, so that it is never versioned."""
    for folder in data.glob(f".*{PARTIAL_SUFFIX}"):
        process = folder.name.removesuffix(PARTIAL_SUFFIX).rpartition(".")[2]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise FlawlineError(
            f"'{name}' cannot name a data set", "use letters, digits, '.', '_' and '-', at most 64"
        ) from None


def _plan(source: Path, records: list[Record], licence: Path | None) -> Plan:
    root = source.resolve()
    plan: Plan = {}
    stems: set[str] = set()
    for record in records:
        stem = record.image.stem
        place = f"{record.category}/{record.split}/{record.defect}"
        # 7.jpg and 7.png are two images: their masks must not become one.
        number = 2
        while f"{place}/{stem}".casefold() in stems:
            stem, number = f"{record.image.stem}-{number}", number + 1
        stems.add(f"{place}/{stem}".casefold())
        plan[f"{place}/{stem}{record.image.suffix}"] = _within(root, record.image)
        if record.mask is not None:
            path = f"{record.category}/ground_truth/{record.defect}/{stem}_mask{record.mask.suffix.lower()}"
            plan[path] = _within(root, record.mask)
    if licence is not None:
        plan[licence.name] = licence
    return plan


def _within(root: Path, path: Path) -> Path:
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


def _licence(source: Path) -> Path | None:
    for folder in (source.resolve(), source.resolve().parent):
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


def _digest(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        raise FlawlineError(
            f"cannot read {file}: {error.strerror}", "fix its permissions or remove it"
        ) from error


def _content(digests: dict[str, str]) -> str:
    """SHA-256 over the sorted names and contents of a data set, dataset.json left out."""
    digest = hashlib.sha256()
    for path in sorted(digests):
        digest.update(f"{path}\0{digests[path]}\n".encode())
    return digest.hexdigest()


def _content_of_folder(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / CARD]
    return _content({file.relative_to(folder).as_posix(): _digest(file) for file in files})


def _copy(plan: Plan, target: Path, card: dict[str, Any]) -> None:
    with atomic_folder(target) as partial:
        for path, file in track(plan.items(), f"copying to {target.name}", len(plan)):
            place = partial / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        write_json(partial / CARD, card)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
