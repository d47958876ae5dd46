"""Throw-away copies of this checkout, and the demo's retraining in them: what benchmarks of whole runs share."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: a line of a few minutes in place of the demo's: two methods, short tuning, one seed
SMALL = (
    "tune.methods=[words, human_free]",
    "tune.seeds=[0]",
    "methods.human_free.epochs=2",
    "evaluate.bootstrap=100",
)


def clone(folder: Path, assignments: Sequence[str] = ()) -> Path:
    """A clone of the checkout as it stands, with changes that are not committed; no data, nothing derived.

    Args:
        folder: made; must not exist.
        assignments: `key=value` for params.yaml, as `flawline retrain --set` takes them.
    """
    from flawline.cli.params import set_params

    subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], check=True)
    listed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, found.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        else:
            target.unlink(missing_ok=True)
    # A result that is committed would be restored, not made.
    (folder / "dvc.lock").unlink(missing_ok=True)
    if assignments:
        set_params(folder / "params.yaml", list(assignments))
    return folder


def environment(root: Path) -> dict[str, str]:
    """Of a command in a clone: its own sources, no other workspace, no running server."""
    strange = ("FLAWLINE_", "PREFECT_", "MLFLOW_", "DASK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    scripts = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([scripts, kept.get("PATH", os.defpath)]),
        "PYTHONPATH": str(root / "src"),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "true",
    }


def retrain(root: Path, *assignments: str) -> float:
    """`flawline retrain` as a process of its own; seconds on the wall, start included."""
    options = [part for assignment in assignments for part in ("--set", assignment)]
    begin = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "flawline"), "retrain", *options],
        cwd=root,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    took = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"flawline retrain failed in {root}:\n{done.stdout[-3000:]}")
    return took
