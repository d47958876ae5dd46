"""What a retraining was made from, kept with its MLflow run: what `flawline rerun` needs to make it again elsewhere.

The commit alone is not enough: people train from files they have not committed. So the run keeps dvc.lock, dvc.yaml,
the .dvc files, and the difference of what the stages read to the commit. Nothing else of the checkout is kept: files
that no stage reads (settings of servers, notes, keys) stay where they are.
"""

import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from flawline.determinism import stage_threads
from flawline.files import write_json
from flawline.line.git import PLAIN, run_git
from flawline.line.lock import WRITTEN_BY_FLOWS, locked_stages
from flawline.settings import Settings
from flawline.workspace import Workspace

FOLDER = "origin"  # of the run's artifacts
PATCH, LEFT_OUT, MACHINE = "changes.patch", "changes.left_out", "machine.json"
# Behind the names of dvc.yaml and *.dvc: the embedded store lies in the workspace, where DVC (without git) takes every
# file of such a name for a part of the pipeline.
SHELVED = ".txt"
_LARGEST_PATCH = 32 << 20  # bytes; weights or images belong to DVC
_CODE = ("src", "dvc.yaml", "*.dvc", "params.yaml")  # read in every stage, whether or not one names it


def write_origin(workspace: Workspace, settings: Settings, folder: Path) -> None:
    """Write the files that the run keeps into an empty folder.

    dvc.lock, dvc.yaml.txt and *.dvc.txt, with what those files hold; `changes.patch`, what the stages read against
    the commit (absent where nothing differs, `changes.left_out` in its place where it is too large); `machine.json`,
    see `machine`.
    """
    if workspace.lock.is_file():
        shutil.copyfile(workspace.lock, folder / workspace.lock.name)
    for file in (workspace.root / "dvc.yaml", *sorted(workspace.root.glob("*.dvc"))):
        if file.is_file():
            shutil.copyfile(file, folder / f"{file.name}{SHELVED}")
    patch = changes(workspace)
    if len(patch) > _LARGEST_PATCH:
        (folder / LEFT_OUT).write_text(f"{len(patch)} bytes of changes to the commit were not kept\n")
    elif patch:
        (folder / PATCH).write_bytes(patch)
    write_json(folder / MACHINE, machine(stage_threads(settings.run.threads)))


def changes(workspace: Workspace) -> bytes:
    """What the stages read, as a git patch against the commit, files not yet added included; empty without git.

    Neither git's index nor its objects are touched.

    Raises:
        FlawlineError: git fails.
    """
    root = workspace.root
    if not run_git(root, "rev-parse", "--verify", "--quiet", "HEAD", fails=True):
        return b""
    excluded = [f":(exclude){name}" for name in WRITTEN_BY_FLOWS]
    listed = (
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *_read_by_stages(workspace),
    )
    files = run_git(root, *listed, *excluded)
    objects = run_git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
    with tempfile.TemporaryDirectory() as scratch:
        own = {
            "GIT_INDEX_FILE": str(Path(scratch) / "index"),
            "GIT_OBJECT_DIRECTORY": str(Path(scratch) / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        (Path(scratch) / "objects").mkdir()
        run_git(root, "read-tree", "HEAD", environment=own)
        run_git(root, "update-index", "--add", "--remove", "-z", "--stdin", environment=own, given=files)
        wanted = (
            "diff",
            "--cached",
            "--binary",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
        )
        return run_git(root, *PLAIN, *wanted, "HEAD", environment=own)


def machine(threads: int) -> dict[str, Any]:
    """What the last bits of a result may depend on besides its inputs.

    Args:
        threads: of each stage.

    Returns:
        `processor`, `system`, `python`, `threads`, and `packages`: {name: version} of what flawline requires.
    """
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": threads,
        "packages": _packages(),
    }


def unlike(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Sentences: where two machines (see `machine`) differ; what one of them does not say is no difference."""
    told = [
        f"{key}: recorded {recorded[key]}, here {here[key]}"
        for key in ("processor", "system", "python", "threads")
        if key in recorded and recorded[key] != here[key]
    ]
    before, now = recorded.get("packages", {}), here["packages"]
    for name in sorted({*before} & {*now}):
        if before[name] != now[name]:
            told.append(f"{name}: recorded {before[name]}, here {now[name]}")
    return told


def _read_by_stages(workspace: Workspace) -> list[str]:
    entries = locked_stages(workspace.lock).values()
    made = {out["path"] for entry in entries for out in entry.get("outs", [])}
    read = {dep["path"] for entry in entries for dep in entry.get("deps", [])}
    read |= {file for entry in entries for file in entry.get("params", {})}
    return sorted({*_CODE, *(path for path in read - made if not path.startswith(("/", "..")))})


def _processor() -> str:
    """The model as Linux tells it: kernels are chosen by it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _packages() -> dict[str, str]:
    from packaging.requirements import Requirement

    found = {}
    for stated in metadata.requires("flawline") or []:
        requirement = Requirement(stated)
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            try:
                found[requirement.name] = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                continue
    return dict(sorted(found.items()))
