"""What a killed run leaves, and that only that is cleared away."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.line import recover
from flawline.line.recover import OWNER, began, repair_lock, repair_rwlock, session, sweep
from flawline.workspace import Workspace

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def rwlock(root: Path, table: dict | str, age: float = 0) -> Path:
    path = root / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_dead_processes_leave_the_table_and_living_ones_stay(tmp_path: Path) -> None:
    living, dead = {"pid": os.getpid(), "cmd": "me"}, {"pid": dead_pid(), "cmd": "gone"}
    path = rwlock(
        tmp_path, {"write": {"/a": dead, "/b": living}, "read": {"/c": [dead, living], "/d": [dead]}}
    )
    assert repair_rwlock(Workspace(tmp_path))
    assert json.loads(path.read_text()) == {"write": {"/b": living}, "read": {"/c": [living]}}
    assert repair_rwlock(Workspace(tmp_path)) == []


def test_a_number_that_was_given_to_a_newer_process_is_dead(tmp_path: Path) -> None:
    path = rwlock(tmp_path, {"write": {"/a": {"pid": os.getpid(), "cmd": "other"}}}, age=10 * 365 * 86400)
    assert repair_rwlock(Workspace(tmp_path))
    assert json.loads(path.read_text())["write"] == {}


def test_dvc_would_have_stopped_at_that(tmp_path: Path) -> None:
    """The reason for the repair: without it a reused number blocks for ever."""
    from flawline.line.pipeline import Busy, run

    (tmp_path / "dvc.yaml").write_text("stages:\n  only: {cmd: touch out, outs: [out]}\n")
    small_line.init_dvc(tmp_path)
    workspace = Workspace(tmp_path)
    entry = {"pid": os.getppid(), "cmd": "dvc repro"}
    rwlock(tmp_path, {"write": {str(tmp_path / "out"): entry}, "read": {}}, age=10 * 365 * 86400)
    with pytest.raises(Busy):
        run(workspace, "only")
    rwlock(tmp_path, {"write": {str(tmp_path / "out"): entry}, "read": {}}, age=10 * 365 * 86400)
    repair_rwlock(workspace)
    assert run(workspace, "only") == "ran"


@pytest.mark.parametrize("text", ["", '{"write": {"/a": {"pi'])
def test_a_table_that_was_cut_off_is_removed(tmp_path: Path, text: str) -> None:
    path = rwlock(tmp_path, text)
    assert repair_rwlock(Workspace(tmp_path)) and not path.exists()


def test_a_cut_off_dvc_lock_is_set_aside_and_a_whole_one_stays(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert repair_lock(workspace) == []
    workspace.lock.write_text("schema: '2.0'\nstages:\n  a:\n    cmd: x\n")
    assert repair_lock(workspace) == [] and workspace.lock.exists()
    workspace.lock.write_text("schema: '2.0'\nstages:\n  a:\n    cmd: 'x")
    assert repair_lock(workspace) and not workspace.lock.exists()
    assert len(list(workspace.state.glob("dvc.lock.broken-*"))) == 1


def child(root: Path, pid: int, created: float) -> subprocess.Popen:
    return subprocess.Popen(SLEEP, env={**os.environ, OWNER: json.dumps([pid, created, str(root)])})


def alive(process: subprocess.Popen) -> bool:
    """Asked of the system: sweep has fetched the exit code already where the orphan is our own child."""
    try:
        return psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_only_orphans_of_this_workspace_are_stopped(tmp_path: Path) -> None:
    own = psutil.Process()
    orphan = child(tmp_path, dead_pid(), 0)
    reused = child(tmp_path, own.pid, began(own.pid) - 5000)
    ours = child(tmp_path, own.pid, began(own.pid))
    elsewhere = child(tmp_path / "other", dead_pid(), 0)
    try:
        time.sleep(0.5)
        assert len(sweep(Workspace(tmp_path))) == 2
        assert [alive(p) for p in (orphan, reused, ours, elsewhere)] == [False, False, True, True]
    finally:
        for process in (orphan, reused, ours, elsewhere):
            process.kill()
            process.wait()


def test_an_orphan_that_ignores_the_polite_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover, "_KILL_AFTER_SECONDS", 0.5)
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{ignore}; print(1, flush=True); time.sleep(600)"
    environment = {**os.environ, OWNER: json.dumps([dead_pid(), 0, str(tmp_path)])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    assert sweep(Workspace(tmp_path))
    assert not alive(process)
    process.stdout.close()
    process.wait()


def test_one_session_a_workspace_and_it_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from flawline.workspace import Workspace\n"
        "from flawline.line.recover import session\n"
        "with session(Workspace(Path(sys.argv[1]))): print('in', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"in\n"
    with pytest.raises(FlawlineError, match="another retraining"), session(Workspace(tmp_path)):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with session(Workspace(tmp_path)) as told, session(Workspace(tmp_path)) as again:
        assert (told, again) == ([], [])
