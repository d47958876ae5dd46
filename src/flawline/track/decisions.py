"""decisions/: what the gate and people decided, one file each, never changed and never decided twice."""

import re
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import read_json, write_json
from flawline.workspace import Workspace

BY_HAND = "hand"  # in `against`: a person decided, nothing was measured
_NAME = re.compile(r"^(\d{4,})-([a-z]+)\.json$")


def history(workspace: Workspace) -> list[dict[str, Any]]:
    """All decisions, oldest first; each as in its file, and with `number` and `file` (its name).

    Raises:
        FlawlineError: a file is damaged, or two have one number.
    """
    rows: list[dict[str, Any]] = []
    for path in _files(workspace):
        record = read_json(path)
        if not isinstance(record, dict) or "verdict" not in record:
            raise FlawlineError(f"{path} is not a decision", "restore it from git or remove it")
        rows.append({"number": _number(path), "file": path.name, **record})
    return rows


def append(workspace: Workspace, record: dict[str, Any]) -> Path:
    """Write a decision under the next number; the caller holds the promotion lock."""
    numbers = [_number(path) for path in _files(workspace)]
    path = workspace.decisions / f"{max(numbers, default=0) + 1:04d}-{record['verdict']}.json"
    if path.exists():
        raise FlawlineError(f"{path} is already there", "decisions are never overwritten")
    write_json(path, record)
    return path


def find(
    workspace: Workspace, challenger: str | None, champion: str | None, results: str
) -> tuple[dict[str, Any], Path] | None:
    """The gate's decision about two prompt sets (sha256, None for none) on these results, if there is one."""
    for row in history(workspace):
        same = (sha_of(row.get("challenger")), sha_of(row.get("champion")), row.get("results"))
        if row.get("against") != BY_HAND and same == (challenger, champion, results):
            return row, workspace.decisions / row["file"]
    return None


def was_rolled_back(workspace: Workspace, sha256: str) -> bool:
    """Did a person take this prompt set back after it was last promoted?

    Then the gate does not promote it again: the person knew something that the test sets do not show.
    """
    back = False
    for row in history(workspace):
        if row["verdict"] == "promote" and sha_of(row.get("challenger")) == sha256:
            back = False
        elif row["verdict"] == "rollback":
            if sha_of(row.get("champion")) == sha256:
                back = True
            elif sha_of(row.get("challenger")) == sha256:
                back = False
    return back


def sha_of(candidate: dict[str, Any] | None) -> str | None:
    """The sha256 of a decision's challenger or champion; None for none."""
    return candidate.get("sha256") if candidate else None


def _files(workspace: Workspace) -> list[Path]:
    if not workspace.decisions.is_dir():
        return []
    paths = sorted((p for p in workspace.decisions.iterdir() if _NAME.match(p.name)), key=_number)
    numbers = [_number(path) for path in paths]
    if len(set(numbers)) < len(numbers):
        twice = next(n for n in numbers if numbers.count(n) > 1)
        raise FlawlineError(
            f"{workspace.decisions} has two decisions with number {twice:04d}", "rename the later one"
        )
    return paths


def _number(path: Path) -> int:
    match = _NAME.match(path.name)
    assert match is not None
    return int(match.group(1))
