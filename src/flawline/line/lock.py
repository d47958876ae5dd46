"""Reading dvc.lock, data.dvc and git: which result lies in the workspace, and what it was made from."""

import hashlib
import json
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.workspace import Workspace

NONE = "none"
# What a retraining itself writes: a change there does not make the code another one.
WRITTEN_BY_FLOWS = ("dvc.lock", "results", "reports", "decisions")


def locked_stages(path: Path) -> dict[str, dict[str, Any]]:
    """The `stages` of a dvc.lock by name; empty where there is no file.

    Raises:
        FlawlineError: the file is not what DVC writes, for example cut off by a full disk.
    """
    entries = (_load_yaml(path) or {}).get("stages") or {}
    if not isinstance(entries, dict):
        raise FlawlineError(f"{path}: 'stages' is not a mapping", "restore the file from git or delete it")
    return entries


def result_id(workspace: Workspace, stages: Collection[str] | None = None) -> str:
    """SHA-256 (64 hex digits) of everything DVC says about how the present result was made.

    Left out are the stages downstream of decisions/: the report shows a decision about the result, so with it
    the result's name would change after the result was judged. Left out as well is the git commit: committing
    a result does not make it another one.

    Args:
        workspace: whose dvc.lock is read.
        stages: names that count, by default all; dvc.lock keeps entries that dvc.yaml no longer has.
    """
    entries = locked_stages(workspace.lock)
    late = downstream_of(entries, workspace.decisions.name)
    kept = {n: e for n, e in entries.items() if n not in late and (stages is None or n in stages)}
    if not kept:
        raise FlawlineError(
            f"{workspace.lock} names no finished stage", "run `dvc repro` or `flawline retrain`"
        )
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def downstream_of(entries: dict[str, dict[str, Any]], path: str) -> set[str]:
    """Names of the stages that read `path`, directly or through another stage's outputs."""
    late: set[str] = set()
    dirty = [path]
    while dirty:
        source = dirty.pop()
        for name, entry in entries.items():
            if name not in late and any(_overlap(source, d["path"]) for d in entry.get("deps", [])):
                late.add(name)
                dirty += [out["path"] for out in entry.get("outs", [])]
    return late


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def lock_hash(workspace: Workspace) -> str:
    """SHA-256 of dvc.lock, or `none`."""
    return sha256_file(workspace.lock) if workspace.lock.is_file() else NONE


def data_hash(workspace: Workspace) -> str:
    """DVC's hash of data/ as data.dvc records it, or `none`."""
    tracked = workspace.root / "data.dvc"
    outs = (_load_yaml(tracked) or {}).get("outs") or [{}]
    return str(outs[0].get("md5", NONE))


def git_commit(root: Path) -> str:
    """The commit of the checkout, `-dirty` behind it where tracked sources differ; `none` without git."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return NONE
    excluded = [f":(exclude){name}" for name in WRITTEN_BY_FLOWS]
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _load_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not path.is_file():
        return None
    try:
        value = YAML(typ="safe", pure=True).load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise FlawlineError(
            f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}",
            "restore it from git, or delete it: dvc restores finished stages from its run cache",
        ) from error
    if not isinstance(value, dict):
        raise FlawlineError(f"{path} is not a mapping", "restore the file from git or delete it")
    return value
