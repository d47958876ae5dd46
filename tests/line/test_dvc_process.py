"""DVC commands in a process that stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flawline.line import capture, dvc_process

PIPELINE = """stages:
  small:
    cmd: echo made; cat; printf out > out.txt
    outs: [out.txt]
  bad:
    cmd: echo no >&2; exit 2
  killed:
    cmd: kill -9 $PPID; sleep 5
"""


@pytest.fixture()
def project(tmp_path: Path) -> Iterator[Path]:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    yield tmp_path
    dvc_process.close()
    capture.start_over()


def dvc(folder: Path, stage: str, **more: str) -> tuple[int, list[str]]:
    environment = {**os.environ, **more}
    return dvc_process.dvc(["repro", "--single-item", stage], folder, environment, folder / "x.log")


def running(folder: Path) -> list[int]:
    """Process numbers of the DVC processes that wait or work in a folder."""
    found = []
    for process in psutil.Process().children():
        if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
            found.append(process.pid)
    return found


def test_one_process_runs_command_after_command_and_tells_each_end(project: Path) -> None:
    code, lines = dvc(project, "small")
    (first,) = running(project)
    assert code == 0 and "made" in lines and (project / "out.txt").read_text() == "out"
    assert (project / "x.log").read_text(encoding="utf-8").splitlines()[-1] == lines[-1]
    code, lines = dvc(project, "bad")
    assert code != 0 and "no" in lines and any("exited with 2" in line for line in lines)
    code, lines = dvc(project, "small")
    assert code == 0 and "made" not in lines  # unchanged
    assert running(project) == [first]
    dvc_process.close()
    assert running(project) == []


def test_a_changed_pipeline_is_read_anew(project: Path) -> None:
    dvc(project, "small")
    (project / "dvc.yaml").write_text(PIPELINE.replace("echo made", "echo remade"), encoding="utf-8")
    assert "remade" in dvc(project, "small")[1]


def test_another_environment_is_another_process(project: Path) -> None:
    dvc(project, "small")
    code, _ = dvc(project, "small", FLAWLINE_TEST="1")
    assert code == 0 and len(running(project)) == 2


def test_the_oldest_idle_process_ends_where_there_are_too_many(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_process, "_MOST_IDLE", 1)
    dvc(project, "small")
    (first,) = running(project)
    dvc(project, "small", FLAWLINE_TEST="1")
    (second,) = running(project)
    assert first != second


def test_a_killed_process_is_told_and_the_next_command_runs(project: Path) -> None:
    assert dvc(project, "killed")[0] == -signal.SIGKILL
    assert dvc(project, "small")[0] == 0
    (idle,) = running(project)
    os.kill(idle, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(idle)], timeout=10)
    assert dvc(project, "small")[0] == 0


def test_nothing_begins_after_stop_all(project: Path) -> None:
    capture.stop_all()
    with pytest.raises(capture.Stopped):
        dvc(project, "small")
