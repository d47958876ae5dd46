"""After a kill -9: what the dead process left behind, and how it is cleared away before the next run.

A killed flow leaves three things. Its children (the running stage, Prefect's embedded server) live on and
would write into the folders of the next run. DVC's table of busy files, .dvc/tmp/rwlock, still names dead
processes; DVC drops those by itself, but not where the number was given to a new process meanwhile, nor where
the table was cut off in the middle. And a dvc.lock cut off in the middle cannot be read at all.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.line.lock import locked_stages
from flawline.workspace import Workspace

OWNER = "FLAWLINE_OWNER"
_KILL_AFTER_SECONDS = 5
_POLL_SECONDS = 0.5
_inside: set[Path] = set()


@contextmanager
def session(workspace: Workspace, patience: float | None = 0) -> Iterator[list[str]]:
    """One retraining a workspace at a time, and a clean place to start from.

    Inside, every process started from here carries its owner's name, so that a later `sweep` can find it. May
    be entered again by whoever is inside. The operating system frees the lock when its holder dies.

    Args:
        workspace: whose.
        patience: seconds to wait for another process that is inside; None: as long as it takes.

    Yields:
        What was cleared away, in words.

    Raises:
        FlawlineError: another process is inside, and still was when patience ended.
    """
    from filelock import FileLock, Timeout

    if workspace.root in _inside:
        yield []
        return
    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.state / "retrain.lock", timeout=-1 if patience is None else patience)
    try:
        lock.acquire(poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise FlawlineError(
            f"another retraining is running in {workspace.root}", "wait for it to end or stop it"
        ) from error
    _inside.add(workspace.root)
    try:
        mark_children(workspace)
        yield [*sweep(workspace), *repair_rwlock(workspace), *repair_lock(workspace)]
    finally:
        _inside.discard(workspace.root)
        lock.release()


def mark_children(workspace: Workspace) -> None:
    """Let every process started from here carry its owner's name."""
    os.environ[OWNER] = json.dumps([os.getpid(), began(os.getpid()), str(workspace.root)])


def began(pid: int) -> float:
    """When a process began: seconds after the machine did, which tells it from a later one with the same number.

    Not the time of day that psutil tells: that one moves when somebody sets the clock, and a living process would be
    taken for another one.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    import psutil

    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return int(fields.split()[19]) / os.sysconf("SC_CLK_TCK")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from None
    return float(psutil.Process(pid).create_time())


def sweep(workspace: Workspace) -> list[str]:
    """Stop processes of this workspace whose owner is dead."""
    import psutil

    orphans = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ValueError, TypeError):
            pid, start, root = (
                json.loads(process.environ()[OWNER]) if OWNER in process.environ() else (0, 0, "")
            )
            if root == str(workspace.root) and process.pid != os.getpid() and not alive(pid, start):
                orphans.append(process)
    told = [f"stopped process {p.pid}, left by a killed run" for p in orphans]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(orphans, timeout=_KILL_AFTER_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_KILL_AFTER_SECONDS)
    return told


def alive(pid: int, start: float) -> bool:
    """Is it still the process that began then (see `began`), and not another one with the same number?"""
    import psutil

    try:
        return abs(began(pid) - start) < 1 and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def repair_rwlock(workspace: Workspace) -> list[str]:
    """Take entries out of .dvc/tmp/rwlock that no living process can have written."""
    import psutil
    from dvc.lock import LockError, make_lock

    path = workspace.root / ".dvc" / "tmp" / "rwlock"
    if not path.is_file():
        return []
    try:
        guard = make_lock(str(path.with_name("rwlock.lock")))
        with guard:
            written = path.stat().st_mtime
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                path.unlink()
                return ["removed DVC's table of busy files, which was cut off"]

            def dead(entry: dict[str, object]) -> bool:
                try:
                    process = psutil.Process(int(str(entry["pid"])))
                    # The table holds no start of its writers. A clock set forward makes living ones look younger
                    # than their table, so what still is a DVC command is left alone.
                    return process.create_time() > written and "dvc" not in " ".join(process.cmdline())
                except psutil.NoSuchProcess:
                    return True

            before = json.dumps(table)
            table["write"] = {p: e for p, e in table.get("write", {}).items() if not dead(e)}
            readers = {p: [e for e in es if not dead(e)] for p, es in table.get("read", {}).items()}
            table["read"] = {p: es for p, es in readers.items() if es}
            if json.dumps(table) == before or not before.count("pid"):
                return []
            path.write_text(json.dumps(table), encoding="utf-8")
            return ["removed dead processes from DVC's table of busy files"]
    except LockError:  # a living DVC process is editing it right now, so it is whole
        return []


def repair_lock(workspace: Workspace) -> list[str]:
    """Set a dvc.lock aside that was cut off; DVC then restores finished stages from its run cache."""
    try:
        locked_stages(workspace.lock)
        return []
    except FlawlineError:
        aside = workspace.state / f"dvc.lock.broken-{int(time.time())}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        workspace.lock.rename(aside)
        return [f"set the unreadable dvc.lock aside as {aside.name}"]
