"""Is the environment sound? Each check says what it found and, if something is amiss, what mends it.

A check never raises: a broken thing becomes a finding. Nothing is repaired or written here, apart from a
probe file in the state folder.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flawline.errors import FlawlineError
from flawline.workspace import Workspace

LEAST_FREE_GB = 2.0
Level = Literal["fine", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. A `note` deserves attention but stops nothing."""

    level: Level
    what: str
    found: str
    remedy: str = ""

    @property
    def mark(self) -> str:
        return {"fine": "✓", "note": "!", "broken": "✗"}[self.level]

    @property
    def broken(self) -> bool:
        return self.level == "broken"


def fine(what: str, found: str) -> Finding:
    return Finding("fine", what, found)


def note(what: str, found: str, remedy: str) -> Finding:
    return Finding("note", what, found, remedy)


def broken(what: str, found: str, remedy: str) -> Finding:
    return Finding("broken", what, found, remedy)


def examine(start: Path | None = None) -> Iterator[Finding]:
    """Yield every finding, first about the machine, then about the workspace of `start`."""
    for check in (_python, _packages, _torchvision, _locale, _threads, _git):
        yield _guarded(check, check.__name__)
    try:
        workspace = Workspace.find(start)
    except FlawlineError as error:
        yield broken("workspace", error.problem, error.remedy)
        return
    yield fine("workspace", str(workspace.root))
    for look in (_params, _dvc, _data, _backbone, _disk, _state, _registry):
        yield _guarded(partial(look, workspace), look.__name__)


def _guarded(check: Callable[[], Finding], name: str) -> Finding:
    """Run one check; whatever it raises is a finding."""
    try:
        return check()
    except FlawlineError as error:
        return broken(name.strip("_"), error.problem, error.remedy)
    except Exception as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return broken(
            name.strip("_"), found, "run: pip install -c constraints.txt -e . (or mend what it says)"
        )


# --- the machine --------------------------------------------------------------------------------------


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata("flawline")["Requires-Python"] or ""
    if not SpecifierSet(wanted).contains(found):
        return broken("python", f"{found}, flawline needs {wanted}", "install it and run `make demo` again")
    return fine("python", found)


def _packages() -> Finding:
    """Every requirement of the installed flawline, extras aside, against what is installed."""
    try:
        stated = metadata.requires("flawline") or []
    except metadata.PackageNotFoundError:
        return broken(
            "packages",
            "flawline itself is not installed",
            'run: pip install -c constraints.txt -e ".[test,lint]"',
        )
    wrong = []
    for requirement in map(Requirement, stated):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    if wrong:
        return broken("packages", "; ".join(wrong), "run: pip install -c constraints.txt -e .")
    return fine("packages", f"{len(stated)} requirements, all within their caps")


def _torchvision() -> Finding:
    """torch and torchvision must be a pair; on CPU builds the shim stands in for the compiled operators."""
    from flawline.clip.torchvision_shim import ensure_torchvision

    pair = f"torch {metadata.version('torch')}, torchvision {metadata.version('torchvision')}"
    native = ensure_torchvision()
    return fine(
        "torchvision", f"{pair}, {'native operators' if native else 'shim in place of compiled operators'}"
    )


def _locale() -> Finding:
    encodings = {sys.getfilesystemencoding(), (getattr(sys.stdout, "encoding", None) or "utf-8")}
    if {name.lower().replace("-", "") for name in encodings} != {"utf8"}:
        return broken("locale", ", ".join(sorted(encodings)), "set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
    return fine("locale", "UTF-8")


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("FLAWLINE_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name)
        if value is None:
            continue
        if not value.isdigit() or int(value) < 1:
            return broken("threads", f"{name}={value}", f"set {name} to a number above 0, or unset it")
        if int(value) > usable:
            return note(
                "threads", f"{name}={value} with {usable} usable cores", f"set {name} to at most {usable}"
            )
    return fine("threads", f"{usable} usable cores")


def _git() -> Finding:
    if shutil.which("git") is None:
        return broken("git", "not found", "install git: DVC and the run tags need it")
    return fine("git", shutil.which("git") or "")


# --- the workspace ------------------------------------------------------------------------------------


def _params(workspace: Workspace) -> Finding:
    from flawline.settings import load_settings

    settings = load_settings(workspace.params)
    return fine("params", f"methods {', '.join(settings.tune.methods)}; backbone {settings.backbone.name}")


def _dvc(workspace: Workspace) -> Finding:
    if not (workspace.root / ".dvc").is_dir():
        return broken(
            "dvc", f"{workspace.root} is no DVC repository", "run: git checkout -- .dvc (or dvc init)"
        )
    command = shutil.which("dvc") or shutil.which("dvc", path=str(Path(sys.executable).parent))
    if command is None:
        return broken("dvc", "no dvc command on PATH", "run: pip install -c constraints.txt -e .")
    return fine("dvc", f"{metadata.version('dvc')}, initialised")


def _data(workspace: Workspace) -> Finding:
    from flawline.settings import load_settings

    wanted = load_settings(workspace.params).data.all
    missing = [name for name in wanted if not (workspace.data / name).is_dir()]
    if missing:
        add = "flawline data add SRC --name NAME"
        remedy = (
            f"run: dvc pull data.dvc (or {add})" if (workspace.root / "data.dvc").is_file() else f"run: {add}"
        )
        return broken("data", f"no {', '.join(f'data/{name}' for name in missing)}", remedy)
    return fine("data", ", ".join(wanted))


def _backbone(workspace: Workspace) -> Finding:
    """A weight file must exist; tags are open_clip's business and `none` needs nothing."""
    from flawline.settings import load_settings

    weights = load_settings(workspace.params).backbone.weights
    if not re.search(r"\.(safetensors|bin|pt|pth)$", weights):
        return fine("backbone", "random weights" if weights == "none" else f"open_clip weights '{weights}'")
    path = workspace.root / weights
    if not path.is_file():
        return broken(
            "backbone", f"{path} is missing", "run: dvc pull backbones.dvc (or correct backbone.weights)"
        )
    return fine("backbone", f"{weights}, {path.stat().st_size / 1e6:.1f} MB")


def _disk(workspace: Workspace) -> Finding:
    free = shutil.disk_usage(workspace.root).free / 1e9
    if free < LEAST_FREE_GB:
        return broken("disk", f"{free:.1f} GB free", f"free at least {LEAST_FREE_GB:.0f} GB")
    return fine("disk", f"{free:.0f} GB free")


def _state(workspace: Workspace) -> Finding:
    probe = workspace.state / f".probe.{os.getpid()}"
    try:
        workspace.state.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return broken(
            "state", f"{workspace.state}: {error.strerror}", "make the folder writable for this user"
        )
    return fine("state", f"{workspace.state} is writable")


def _registry(workspace: Workspace) -> Finding:
    """The MLflow store answers, and who is champion. A store that is not there yet is not made."""
    from flawline.settings import load_settings
    from flawline.track import registry, store

    settings = load_settings(workspace.params)
    uri = store.tracking_uri(workspace, settings)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return note("registry", "no MLflow store yet", "run: flawline retrain")
    try:
        champion = registry.by_alias(workspace, settings, registry.CHAMPION)
    except FlawlineError:
        raise
    except Exception as error:  # sqlite, SQLAlchemy, MLflow and HTTP clients each have their own
        found = f"{uri}: {' '.join(str(error).split())[:120]}"
        return broken("registry", found, "restore or delete the database, or correct track.uri")
    if champion is None:
        return note("registry", "reachable, no champion yet", "run: flawline retrain")
    named = f"{champion.method}, {champion.train_set}, seed {champion.seed}"
    return fine("registry", f"champion is version {champion.version} ({named})")
