"""Two dvc.lock files compared: which stages gave other bytes, and where that began."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.files import read_json, sha256_file
from flawline.workspace import Workspace

ABSENT = "absent"
_MOST_FILES = 10  # of a folder that differs are named


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was recorded.

    Attributes:
        stage: as DVC names it.
        kind: `command`, `params`, `input`, `output` or `file` (a file inside an output folder, or a results table).
        path: of the file or folder; of params the file and the key.
        recorded, here: hashes (of params: values), or `absent`.
        first: an output that differs although command, params and inputs of its stage are the same: here it began.
    """

    stage: str
    kind: str
    path: str
    recorded: str
    here: str
    first: bool = False

    def __str__(self) -> str:
        began = "; its inputs are the same: here it began" if self.first else ""
        return f"{self.stage}: {self.kind} {self.path}: recorded {self.recorded}, here {self.here}{began}"


def compare_locks(
    recorded: Mapping[str, Any], here: Mapping[str, Any], stages: Sequence[str]
) -> list[Difference]:
    """Every difference between two locks.

    Args:
        recorded: `stages` of the recorded dvc.lock.
        here: of the one that was made now.
        stages: which count, in the pipeline's order.
    """
    found: list[Difference] = []
    for name in stages:
        before, now = recorded.get(name), here.get(name)
        if before is None or now is None:
            if before is not now:
                then, today = (ABSENT if entry is None else "present" for entry in (before, now))
                found.append(Difference(name, "output", "(the whole stage)", then, today))
            continue
        reasons = _reasons(name, before, now)
        outputs = _hashes(name, "output", before.get("outs", []), now.get("outs", []), first=not reasons)
        found += [*reasons, *outputs]
    return found


def compare_tables(entries: Mapping[str, Any], recorded: Path, here: Path) -> list[Difference]:
    """The results tables (*.csv) of a folder, byte for byte, with those of another; SHA-256 is named.

    Tables that only `here` has are left out: an ablation's, for example.

    Args:
        entries: `stages` of the recorded dvc.lock, which say who made what.
        recorded: folder with the recorded tables.
        here: folder with those that were made now.
    """
    maker = {out["path"]: name for name, entry in entries.items() for out in entry.get("outs", [])}
    found = []
    for file in sorted(recorded.glob("*.csv")):
        path, other = f"{here.name}/{file.name}", here / file.name
        now = sha256_file(other) if other.is_file() else ABSENT
        if (before := sha256_file(file)) != now:
            found.append(Difference(maker.get(path, "tables"), "file", path, before, now))
    return found


def compare_sources(
    recorded: Mapping[str, Any], workspace: Workspace, stages: Sequence[str]
) -> list[Difference]:
    """Inputs that no stage makes (code, data, weights), as the workspace has them, against the recorded ones.

    Args:
        recorded: `stages` of the recorded dvc.lock.
        workspace: whose files are hashed as DVC does.
        stages: which count, in the pipeline's order.
    """
    from dvc.dependency.param import ParamsDependency
    from dvc.repo import Repo

    from flawline.line.pipeline import quiet

    made = {out["path"] for entry in recorded.values() for out in entry.get("outs", [])}
    found: list[Difference] = []
    with quiet(), Repo(str(workspace.root), _wait_for_lock=True) as repo, repo.lock:
        hashes = {
            Path(dep.fs_path).relative_to(workspace.root).as_posix(): dep
            for stage in repo.index.stages
            for dep in stage.deps
            if not isinstance(dep, ParamsDependency) and Path(dep.fs_path).is_relative_to(workspace.root)
        }
        now = {
            path: str(dep.get_hash().value) if dep.exists else ABSENT
            for path, dep in sorted(hashes.items())
            if not any(_overlap(path, out) for out in made)
        }
    for name in stages:
        for dep in recorded.get(name, {}).get("deps", []):
            if now.get(dep["path"], _hash(dep)) != _hash(dep):
                found.append(Difference(name, "input", dep["path"], _hash(dep), now[dep["path"]]))
    return found


def inside(difference: Difference, recorded: Path, here: Path) -> list[Difference]:
    """The files by which two versions of an output folder differ, where DVC's caches still list both.

    Args:
        difference: of an output.
        recorded: DVC cache that may hold the recorded version (its `files/md5`).
        here: the one that holds what was made now.
    """
    before, now = _listed(recorded, difference.recorded), _listed(here, difference.here)
    if before is None or now is None:
        return []
    return [
        Difference(
            difference.stage,
            "file",
            f"{difference.path}/{name}",
            before.get(name, ABSENT),
            now.get(name, ABSENT),
        )
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ][:_MOST_FILES]


def outputs(entries: Mapping[str, Any], stages: Collection[str]) -> int:
    """How many outputs these stages have."""
    return sum(len(entries[name].get("outs", [])) for name in stages if name in entries)


def _reasons(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    found = []
    if before.get("cmd") != now.get("cmd"):
        found.append(Difference(name, "command", "cmd", str(before.get("cmd")), str(now.get("cmd"))))
    then, today = _params(before), _params(now)
    for key in sorted({*then, *today}):
        if then.get(key, ABSENT) != today.get(key, ABSENT):
            found.append(
                Difference(name, "params", key, str(then.get(key, ABSENT)), str(today.get(key, ABSENT)))
            )
    return found + _hashes(name, "input", before.get("deps", []), now.get("deps", []))


def _params(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{file}:{key}": value
        for file, values in entry.get("params", {}).items()
        for key, value in values.items()
    }


def _hashes(
    name: str, kind: str, before: Sequence[Any], now: Sequence[Any], first: bool = False
) -> list[Difference]:
    then, today = ({item["path"]: _hash(item) for item in items} for items in (before, now))
    return [
        Difference(name, kind, path, then.get(path, ABSENT), today.get(path, ABSENT), first)
        for path in sorted({*then, *today})
        if then.get(path) != today.get(path)
    ]


def _hash(item: Mapping[str, Any]) -> str:
    return str(item.get(item.get("hash", "md5"), item.get("md5", ABSENT)))


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _listed(cache: Path, md5: str) -> dict[str, str] | None:
    """{file: md5} of a folder's version, or None where it is no folder or the cache does not hold it."""
    path = cache / md5[:2] / md5[2:]
    if not md5.endswith(".dir") or not path.is_file():
        return None
    return {item["relpath"]: item["md5"] for item in read_json(path)}
