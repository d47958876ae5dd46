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


def by_hand(
    verdict: str, challenger: dict[str, Any], champion: dict[str, Any] | None, reason: str
) -> dict[str, Any]:
    """The record of what a person did: nothing was measured."""
    return {
        "champion": champion,
        "challenger": challenger,
        "against": BY_HAND,
        "tests": [],
        "verdict": verdict,
        "reason": reason,
        "margin": None,
        "confidence": None,
        "results": None,
    }


def find(
    workspace: Workspace,
    challenger: str | None,
    champion: str | None,
    results: str,
    settings: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], Path] | None:
    """The gate's decision about two prompt sets on these results, if there is one.

    Args:
        workspace: whose decisions.
        challenger, champion: sha256, None for none.
        results: hash of the results.
        settings: of the gate: a decision that was taken with others is another one. Older ones do not tell theirs.
    """
    for row in history(workspace):
        same = (sha_of(row.get("challenger")), sha_of(row.get("champion")), row.get("results"))
        then = (row.get("inputs") or {}).get("settings")
        alike = settings is None or then is None or then == settings
        if row.get("against") != BY_HAND and same == (challenger, champion, results) and alike:
            return row, workspace.decisions / row["file"]
    return None


def by_number(workspace: Workspace, number: int) -> dict[str, Any]:
    """One decision, as `history` gives it.

    Raises:
        FlawlineError: there is no such decision.
    """
    rows = history(workspace)
    found = next((row for row in rows if row["number"] == number), None)
    if found is None:
        there = f"1 to {rows[-1]['number']}" if rows else "none yet"
        raise FlawlineError(f"there is no decision {number:04d}", f"decisions: {there}")
    return found


def known_types(workspace: Workspace, sha256: str) -> dict[str, list[str]] | None:
    """Test set → defect types that a prompt set was judged on when it was last the challenger.

    Returns:
        None where no decision tells (it was promoted by hand, elsewhere, or by an older version): then nobody knows
        which types are new to it.
    """
    for row in reversed(history(workspace)):
        if row.get("against") != BY_HAND and sha_of(row.get("challenger")) == sha256 and row.get("types"):
            return {test: sorted(types) for test, types in row["types"].items()}
    return None


def has_served(workspace: Workspace, sha256: str) -> bool:
    """Did a decision of this workspace ever make this prompt set champion?"""
    return any(
        row["verdict"] in ("promote", "rollback") and sha_of(row.get("challenger")) == sha256
        for row in history(workspace)
    )


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
