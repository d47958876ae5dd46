"""Stages as tasks, on a DVC line of a few shell commands."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run
from ruamel.yaml import YAML

import small_line
from flawline.errors import FlawlineError
from flawline.line import pipeline
from flawline.line.pipeline import StageCrashed
from flawline.settings import parse_settings
from flawline.workspace import Workspace
from flows import stages
from flows.runners import stage_runner
from flows.stages import run_stages

pytestmark = pytest.mark.usefixtures("prefect_api")
RUN_IDS: list[str] = []


@flow(name="only stages")
def only_stages(root: str, force: bool = False, workers: int = 1) -> dict[str, str]:
    RUN_IDS.append(str(flow_run.id))
    workspace = Workspace(Path(root))
    with stage_runner(workspace, settings(workers)) as runner:
        return run_stages(workspace, pipeline.stages(workspace), runner, force)


def settings(workers: int):  # type: ignore[no-untyped-def]
    raw = YAML(typ="safe", pure=True).load(small_line.PARAMS)
    return parse_settings({**raw, "run": {"workers": workers}})


def repo(root: Path, text: str) -> Workspace:
    (root / "dvc.yaml").write_text(text)
    (root / "source").write_text("x\n")
    small_line.init_dvc(root)
    return Workspace(root)


TWO = """\
stages:
  make: {cmd: "echo make >> ran.txt; cut -c1 source > a", deps: [source], outs: [a]}
  use: {cmd: "echo use >> ran.txt; echo heard this; cat a > b", deps: [a], outs: [b]}
"""


def ran(workspace: Workspace) -> list[str]:
    path = workspace.root / "ran.txt"
    return path.read_text().split() if path.exists() else []


def test_each_stage_is_a_task_and_a_second_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = repo(tmp_path, TWO)
    assert only_stages(str(tmp_path)) == {"make": "ran", "use": "ran"}
    assert "heard this" in capsys.readouterr().err
    assert task_names() == ["dvc: make", "dvc: use"]
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run", lambda *a, **k: pytest.fail("a subprocess for nothing"))
        assert only_stages(str(tmp_path)) == {"make": "unchanged", "use": "unchanged"}
    assert task_names() == ["dvc: make", "dvc: use"]
    assert ran(workspace) == ["make", "use"]
    assert only_stages(str(tmp_path), force=True) == {"make": "ran", "use": "ran"}


def task_names() -> list[str]:
    """Of the last flow run, as the Prefect API knows them."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[RUN_IDS[-1]]))
    for _ in range(50):  # task runs reach the API as events, a moment later, and their names after them
        with get_client(sync_client=True) as client:
            names = sorted(run.name for run in client.read_task_runs(flow_run_filter=wanted))
        if len(names) == 2 and all(name.startswith("dvc: ") for name in names):
            break
        time.sleep(0.2)
    return names


def test_what_follows_an_equal_output_does_not_run(tmp_path: Path) -> None:
    workspace = repo(tmp_path, TWO)
    only_stages(str(tmp_path))
    (tmp_path / "source").write_text("xyz\n")
    assert only_stages(str(tmp_path)) == {"make": "ran", "use": "unchanged"}
    (tmp_path / "source").write_text("yyy\n")
    assert only_stages(str(tmp_path)) == {"make": "ran", "use": "ran"}
    assert ran(workspace) == ["make", "use", "make", "make", "use"]


def single(root: Path, command: str) -> Workspace:
    return repo(
        root, f"stages:\n  only:\n    cmd: >-\n      echo only >> ran.txt; {command}\n    outs: [out]\n"
    )


def test_a_refused_input_is_not_tried_again(tmp_path: Path) -> None:
    workspace = single(tmp_path, "echo 'error: bad.png is empty' >&2; exit 2")
    with pytest.raises(FlawlineError, match=r"^bad\.png is empty$"):
        only_stages(str(tmp_path))
    assert ran(workspace) == ["only"]


def test_a_crash_is_tried_once_more(tmp_path: Path) -> None:
    workspace = single(tmp_path, "test $(wc -l < ran.txt) -ge 2 && touch out")
    assert only_stages(str(tmp_path)) == {"only": "ran"}
    assert ran(workspace) == ["only", "only"]


def test_but_not_for_ever(tmp_path: Path) -> None:
    workspace = single(tmp_path, "exit 1")
    with pytest.raises(StageCrashed, match="exited with 1"):
        only_stages(str(tmp_path))
    assert ran(workspace) == ["only", "only"]


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Held longer than DVC's own three seconds of patience."""
    from dvc.repo import Repo

    workspace = single(tmp_path, "touch out")
    held = Repo(str(tmp_path))
    took = threading.Event()

    def hold() -> None:
        with held.lock:
            took.set()
            time.sleep(6)

    found = pipeline.stages(workspace)

    @flow
    def blocked() -> str:
        thread = threading.Thread(target=hold)
        thread.start()
        took.wait(10)
        outcome = stages.dvc_stage(str(tmp_path), found[0].name, False)
        thread.join()
        return outcome

    assert blocked() == "ran"
    held.close()
    assert ran(workspace) == ["only"]


def test_the_stages_after_a_failed_one_do_not_run(tmp_path: Path) -> None:
    text = TWO.replace("cut -c1 source > a", "exit 2")
    workspace = repo(tmp_path, text)
    with pytest.raises(FlawlineError):
        only_stages(str(tmp_path))
    assert ran(workspace) == ["make"] and not (tmp_path / "b").exists()


# Each of two says that it is there and waits for the other: they end only side by side.
MEET = """\
stages:
  left:
    cmd: &meet >-
      touch $DVC_STAGE.here; echo here; for i in $(seq 600); do
      [ -f left.here ] && [ -f right.here ] && break; sleep 0.1; done;
      [ -f left.here ] && [ -f right.here ] && echo $DVC_STAGE $FLAWLINE_THREADS $OMP_NUM_THREADS > $DVC_STAGE
    outs: [left]
  right: {cmd: *meet, outs: [right]}
  both: {cmd: cat left right > both, deps: [left, right], outs: [both]}
"""


def test_stages_that_do_not_wait_for_each_other_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAWLINE_THREADS", "3")
    repo(tmp_path, MEET)
    assert only_stages(str(tmp_path), workers=2) == {"left": "ran", "right": "ran", "both": "ran"}
    assert (tmp_path / "both").read_text() == "left 3 3\nright 3 3\n", "each with its fixed number of threads"
    told = capsys.readouterr().err.splitlines()
    assert {"    left: here", "    right: here"} <= set(told), "who speaks is told"
    assert [line.split(":")[0] for line in told if " ran in " in line][-1] == "  both"


def test_one_worker_runs_one_stage_at_a_time(tmp_path: Path) -> None:
    count = "cmd: 'mkdir busy && sleep 0.3 && rmdir busy && touch $DVC_STAGE'"
    repo(tmp_path, f"stages:\n  a: {{{count}, outs: [a]}}\n  b: {{{count}, outs: [b]}}\n")
    assert only_stages(str(tmp_path), workers=1) == {"a": "ran", "b": "ran"}, "mkdir fails where it is there"


FAILING = """\
stages:
  bad: {cmd: "until [ -f begun ]; do sleep 0.1; done; echo 'error: a.png is empty' >&2; exit 2", outs: [x]}
  good: {cmd: "touch begun; sleep 3; echo good >> ran.txt; touch good", outs: [good]}
  later: {cmd: "echo later >> ran.txt; touch later", outs: [later]}
  after: {cmd: "echo after >> ran.txt; touch after", deps: [good], outs: [after]}
"""


def test_what_runs_beside_a_failure_ends_and_nothing_new_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of `good` and `later` the one that got the second place ends; in DVC's order that is `good`."""
    workspace = repo(tmp_path, FAILING)
    with pytest.raises(FlawlineError, match=r"^a\.png is empty$"):
        only_stages(str(tmp_path), workers=2)
    assert ran(workspace) == ["good"] and pipeline.stale(workspace, ["good"]) == set()
    assert "bad: failed; good may end, nothing new begins" in capsys.readouterr().err


def test_an_interrupt_stops_all_that_run_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    waiting = "echo $$ > $DVC_STAGE.pid; [ -f go ] || sleep 600; touch $DVC_STAGE"
    text = f"stages:\n  a: {{cmd: &c '{waiting}', outs: [a]}}\n  b: {{cmd: *c, outs: [b]}}\n"
    repo(tmp_path, text)
    pids = [tmp_path / "a.pid", tmp_path / "b.pid"]

    def interrupt() -> None:
        end = time.monotonic() + 60
        while not all(pid.is_file() and pid.read_text().strip() for pid in pids) and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        only_stages(str(tmp_path), workers=2)
    thread.join()
    assert not any(alive(int(pid.read_text())) for pid in pids)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    (tmp_path / "go").touch()
    assert only_stages(str(tmp_path), workers=2) == {"a": "ran", "b": "ran"}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
