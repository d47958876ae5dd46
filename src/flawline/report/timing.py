"""Time and memory of the stages, beside the page: measured by the flow, never part of what DVC tracks.

The page is a pure output of files and has no clock in it. So the flow records what each stage took below .state/ and
writes `reports/timing.js`, a script that the page loads when it is there; opened from a disk, a page may load a script
that lies beside it, but no data. Without it the page is whole and has no such section.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flawline.files import read_json, write_json, write_text
from flawline.settings import Settings
from flawline.workspace import Workspace

VARIABLE = "flawlineTiming"


@dataclass(frozen=True)
class Measured:
    """One run of one stage.

    Attributes:
        stage: as DVC names it, for example `tune@human_free-castings-0`.
        seconds: of wall-clock time, DVC's own included.
        peak_bytes: most resident memory that any one process of it held; None where nobody measured.
    """

    stage: str
    seconds: float
    peak_bytes: int | None = None


def timing_script(workspace: Workspace) -> Path:
    """Where the script lies: beside the page."""
    return workspace.report.with_name("timing.js")


def record(workspace: Workspace, one: Measured) -> None:
    """Keep what a stage took, in place of its last run; several processes may do so at once."""
    name = re.sub(r"[^A-Za-z0-9_.@-]", "_", one.stage)
    write_json(workspace.state / "timing" / f"{name}.json", asdict(one))


def recorded(workspace: Workspace) -> dict[str, Measured]:
    """What is known, by stage.

    Raises:
        FlawlineError: a record is no JSON. One of another form is passed over.
    """
    found = {}
    for path in sorted((workspace.state / "timing").glob("*.json")):
        one: Any = read_json(path)
        if isinstance(one, dict) and isinstance(one.get("stage"), str):
            seconds, peak = one.get("seconds"), one.get("peak_bytes")
            if isinstance(seconds, int | float) and isinstance(peak, int | None):
                found[one["stage"]] = Measured(one["stage"], float(seconds), peak)
    return found


def publish(workspace: Workspace, settings: Settings, stages: Iterable[str]) -> Path | None:
    """Write the script beside the page.

    Args:
        workspace: holds the records and the page.
        settings: its methods; the runs of one stage and method are shown together.
        stages: names of the present stages in their order; records of others are left out.

    Returns:
        The script, or None where nothing was ever measured.
    """
    known = recorded(workspace)
    there = [known[stage] for stage in stages if stage in known]
    if not there:
        return None
    groups: dict[str, list[Measured]] = {}
    for one in there:
        groups.setdefault(_group(one.stage, settings.tune.methods), []).append(one)
    told = {
        "groups": [_together(name, runs) for name, runs in groups.items()],
        "stages": [{**asdict(one), "seconds": round(one.seconds, 1)} for one in there],
    }
    path = timing_script(workspace)
    # ASCII alone: what JSON allows in a string, older JavaScript does not in all cases.
    write_text(path, f"window.{VARIABLE} = {json.dumps(told, ensure_ascii=True, allow_nan=False)};\n")
    return path


def _group(stage: str, methods: Iterable[str]) -> str:
    """`tune, dapo` for `tune@dapo-castings-0`; the stage's name alone where its cell begins with no method."""
    name, _, cell = stage.partition("@")
    # The longest first: one method's name may begin with another's.
    for method in sorted(methods, key=lambda one: -len(one)):
        if cell == method or cell.startswith(f"{method}-"):
            return f"{name}, {method}"
    return name


def _together(name: str, runs: list[Measured]) -> dict[str, Any]:
    peaks = [one.peak_bytes for one in runs if one.peak_bytes is not None]
    return {
        "name": name,
        "runs": len(runs),
        "seconds": round(sum(one.seconds for one in runs), 1),
        "longest": round(max(one.seconds for one in runs), 1),
        "peak_bytes": max(peaks, default=None),
    }
