"""A decision taken again from the files it was taken from, and compared with what was written down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flawline.errors import FlawlineError
from flawline.files import read_parquet, sha256_file
from flawline.gate.candidate import Candidate, found_again, kept, require_file
from flawline.gate.claims import Types
from flawline.gate.decide import Decision, decide
from flawline.settings import GateSettings

#: values agree within this: another machine may round sums otherwise
_TOLERANCE = 1e-9


def inputs(
    challenger: Candidate,
    champion: Candidate | None,
    baseline: Candidate | None,
    settings: GateSettings,
    manifest: Path,
    known: Types | None,
    root: Path,
) -> dict[str, Any]:
    """What a decision keeps of all that it was taken from: for the key `inputs` of its file.

    Args:
        challenger, champion, baseline, settings, known: as given to `decide`.
        manifest: the image table's file.
        root: the workspace; paths are kept relative to it.

    Raises:
        FlawlineError: a file is missing.
    """
    other = champion or baseline
    place = manifest.relative_to(root).as_posix()
    return {
        "settings": settings.model_dump(),
        "manifest": {"file": place, "sha256": sha256_file(manifest)},
        "known_types": None
        if known is None
        else {test: sorted(types) for test, types in sorted(known.items())},
        "challenger": kept(challenger, root),
        "other": None if other is None else {"described": other.described, **kept(other, root)},
    }


def again(record: Mapping[str, Any], root: Path) -> Decision:
    """Take the decision of a decision file again.

    Args:
        record: the file.
        root: the workspace.

    Raises:
        FlawlineError: nothing was measured, the decision is older than this check, or a file is no longer what it was.
    """
    held = record.get("inputs")
    if not record.get("tests") and not held:
        raise FlawlineError(
            "nothing was measured for this decision, so there is nothing to check", "see its reason"
        )
    try:
        if not isinstance(held, dict):
            raise KeyError("inputs")
        settings = GateSettings.model_validate(held["settings"])
        manifest = require_file(root, held["manifest"]["file"], held["manifest"]["sha256"])
        challenger = found_again(record["challenger"], held["challenger"], root)
        other = held["other"]
        side = None if other is None else found_again(other["described"], other, root)
        champion, baseline = (side, None) if record["champion"] else (None, side)
        known = held["known_types"]
        results = str(record["results"])
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        raise FlawlineError(
            "this decision keeps no hashes of what it was taken from, so it cannot be taken again",
            "decisions of this version and later can",
        ) from error
    return decide(challenger, champion, settings, results, baseline, read_parquet(manifest), known)


def differences(record: Mapping[str, Any], decision: Decision) -> list[str]:
    """In what a decision taken again is another one, in clauses; empty where it is the same."""
    new, told = decision.record(), []
    for key in ("verdict", "reason", "against", "types", "new_types"):
        if record.get(key) != new[key]:
            told.append(f"{key} was {record.get(key)!r} and is {new[key]!r}")
    old_tests, new_tests = record.get("tests", []), new["tests"]
    if len(old_tests) != len(new_tests):
        return [*told, f"{len(old_tests)} tests were made, {len(new_tests)} are now"]
    for old, one in zip(old_tests, new_tests, strict=True):
        other = [key for key, value in one.items() if not _same(old.get(key), value)]
        if other:
            place = f"{one['claim']} {one['metric']} on {one['test_set']}"
            told.append(f"{place}: {', '.join(f'{key} {old.get(key)!r} → {one[key]!r}' for key in other)}")
    return told


def _same(old: Any, new: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new)]
    return abs(old - new) <= _TOLERANCE * max(1.0, abs(new)) if all(numbers) else bool(old == new)
