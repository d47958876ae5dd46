"""DVC as the flow sees it: which stages there are, which must run, and running one.

Asking happens in this process, running as `dvc repro --single-item` in one beside it: there a stage's output can be
captured without redirecting this process' own file descriptors, where Prefect's log handlers write as well; and a
process group of its own can be stopped whole. It stays for the next stage, because DVC takes half a second to start.
Unchanged stages cost nothing: one status call tells them all.

Stages may run side by side. DVC holds the repository's lock while it reads and writes about a stage, and frees it
while the stage's command runs. By itself it gives up after three seconds of waiting, also where the command has
ended and only its result is to be written down: so it is told to wait.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flawline.determinism import thread_environment
from flawline.errors import ChecksFailed, FlawlineError
from flawline.line.dvc_process import dvc
from flawline.workspace import Workspace

Outcome = Literal["ran", "restored", "unchanged"]
REFUSED = 2  # the exit code of a FlawlineError
_EXITED = re.compile(r"exited with (-?\d+)")
_BUSY = ("Unable to acquire lock", "it is being blocked by")


class Busy(Exception):
    """Another DVC process holds a lock: worth another try."""


class StageCrashed(Exception):
    """A stage ended without a clear message of its own (killed, out of memory, a bug): worth another try."""


@dataclass(frozen=True)
class Stage:
    """One node of DVC's graph, matrix cells resolved."""

    name: str
    upstream: tuple[str, ...]
    deps: tuple[str, ...]
    command: bool  # False for a .dvc file: running it records changed data


def stages(workspace: Workspace) -> list[Stage]:
    """All stages of dvc.yaml and the .dvc files, each after what it needs, in the order of `dvc repro`."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    try:
        with quiet(), Repo(str(workspace.root)) as repo:
            graph = get_active_graph(repo.index.graph)
            return [
                Stage(
                    name=_name(node, workspace.root),
                    upstream=tuple(sorted(_name(up, workspace.root) for up in graph.successors(node))),
                    deps=tuple(sorted(_relative(dep.fs_path, workspace.root) for dep in node.deps)),
                    command=bool(node.cmd),
                )
                for node in plan_repro(graph)
            ]
    except DvcException as error:
        raise _dvc_error(error) from error


def stale(workspace: Workspace, names: Collection[str] = ()) -> set[str]:
    """Names of the stages whose files differ from dvc.lock now (all stages, or only those of `names`).

    A stage behind a stale one is not in the set until its dependencies have really changed.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with quiet(), Repo(str(workspace.root), _wait_for_lock=True) as repo, repo.lock:
            named = [(_name(node, workspace.root), node) for node in repo.index.stages]
            return {name for name, node in named if (not names or name in names) and node.status()}
    except DvcException as error:
        raise _dvc_error(error) from error


def after_decision(all_stages: Collection[Stage], decisions: str = "decisions") -> set[str]:
    """Names of the stages that read decisions/, directly or through others: they run after the gate."""
    late = {
        s.name for s in all_stages if any(d == decisions or d.startswith(decisions + "/") for d in s.deps)
    }
    for stage in all_stages:  # in order: upstream comes first
        if late.intersection(stage.upstream):
            late.add(stage.name)
    return late


def log_file(workspace: Workspace, name: str) -> Path:
    """Where the output of a stage's last run is kept."""
    return workspace.state / "logs" / f"{re.sub(r'[^A-Za-z0-9_.@-]', '_', name)}.log"


def run(
    workspace: Workspace,
    name: str,
    *,
    force: bool = False,
    threads: int | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_peak: Callable[[int], None] = lambda peak: None,
) -> Outcome:
    """`dvc repro --single-item name`: run one stage if it has to, and say what happened.

    Args:
        workspace: where.
        name: the stage as dvc names it, for example `tune@human_free-castings-0`.
        force: run even where nothing changed.
        threads: of the stage; by default what the environment says.
        on_line: called with every line of output (the command's and DVC's); all go to `log_file` as well.
        on_peak: called with the most resident bytes that any one process of the stage held, where known.

    Raises:
        ChecksFailed, FlawlineError: the stage refused its input (exit code 2) or DVC cannot run it.
        Busy: DVC's table of busy files is held. StageCrashed: any other end. Stopped: by `capture.stop_all`.
    """
    arguments = ["--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), name]
    # dvc.yaml calls `flawline`, which a shell without the activated environment would not find.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, **thread_environment(threads), "PATH": path, "PYTHONUNBUFFERED": "1"}
    environment.pop(
        "FLAWLINE_WORKSPACE", None
    )  # stages run where they are; a cluster's worker may name another place
    code, lines = dvc(arguments, workspace.root, environment, log_file(workspace, name), on_line, on_peak)
    text = "\n".join(lines)
    if code == 0:
        if f"Running stage '{name}'" in text or "Verifying data sources" in text:
            return "ran"
        return "restored" if "is cached - skipping run" in text else "unchanged"
    if any(sign in text for sign in _BUSY):
        raise Busy(f"a DVC lock is held while {name} should run: {_last(lines)}")
    exited = _EXITED.findall(text)
    if not exited and code > 0:
        raise FlawlineError(f"DVC cannot run {name}: {_last(lines)}", f"see {log_file(workspace, name)}")
    if exited and int(exited[-1]) == REFUSED:
        kind = ChecksFailed if name.split("@")[0] == "checks" else FlawlineError
        raise kind(_own_last(lines) or f"stage {name} refused its input")
    how = f"exited with {exited[-1]}" if exited else f"dvc was killed by signal {-code}"
    raise StageCrashed(f"stage {name} {how}: {_own_last(lines)} (all of it: {log_file(workspace, name)})")


def _last(lines: list[str]) -> str:
    return lines[-1].removeprefix("ERROR: ") if lines else "no output"


def _own_last(lines: list[str]) -> str:
    """The last line the command itself wrote: DVC's come after it."""
    own = [
        line for line in lines if not line.startswith(("ERROR: failed to reproduce", "Running stage", "> "))
    ]
    return own[-1].removeprefix("error: ") if own else ""


@contextmanager
def quiet() -> Iterator[None]:
    """Hold DVC's own log back."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # silences its progress bars as well
    try:
        yield
    finally:
        logger.setLevel(level)


def _name(node: Any, root: Path) -> str:
    """A stage's name as seen from the workspace; DVC's `addressing` depends on the working directory."""
    file = _relative(str(Path(node.path).resolve()), root)
    name = getattr(node, "name", None)
    if name is None:
        return file
    return str(name) if file == "dvc.yaml" else f"{file}:{name}"


def _relative(path: str, root: Path) -> str:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path


def _dvc_error(error: Exception) -> Exception:
    from dvc.lock import LockError

    if isinstance(error, LockError):
        return Busy(str(error))
    return FlawlineError(
        f"DVC: {' '.join(str(error).split())}", "mend dvc.yaml, dvc.lock or the .dvc file it names"
    )
