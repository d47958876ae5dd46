"""Stages in forks of a process that has their libraries loaded."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flawline.line.warm import ADDRESS, ask

SECONDS = 60
ROOT = Path(__file__).parents[2]
# In the warm process alone: a stage that tells what it sees, and then waits.
PATIENT = """
import os, sys, time
import flawline.stages.manifest as stage

def run(workspace, settings):
    print("running", os.getpid(), os.getcwd(), os.environ.get("FLAWLINE_TEST"), sys.argv, flush=True)
    print("beside", file=sys.stderr, flush=True)
    if os.environ.get("FLAWLINE_TEST") == "wait":
        time.sleep(600)

stage.run = run
"""


class Warm:
    """A running warm process, and commands that know of it."""

    def __init__(self, folder: Path) -> None:
        folder.joinpath("sitecustomize.py").write_text(PATIENT, encoding="utf-8")
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}
        command = [sys.executable, "-P", "-m", "flawline.line.warm_loop"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self.environment)
        assert self.process.stdout is not None
        self.address = Path(self.process.stdout.readline().strip())

    def begin(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """`flawline arguments` in the checkout, handed over; what comes of it can be read."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), ADDRESS: str(self.address), **more}
        command = [sys.executable, "-P", "-c", "from flawline.cli import main; main()", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment)

    def waiting(self) -> tuple["subprocess.Popen[str]", psutil.Process]:
        """A stage that runs until it is stopped, and the process in which it does."""
        asker = self.begin("stage", "manifest", FLAWLINE_TEST="wait")
        assert asker.stdout is not None
        return asker, psutil.Process(int(asker.stdout.readline().split()[1]))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(SECONDS)


@pytest.fixture()
def warm(tmp_path: Path) -> Iterator[Warm]:
    made = Warm(tmp_path)
    yield made
    made.close()


def gone(process: psutil.Process) -> bool:
    process.wait(SECONDS)
    return not process.is_running()


def test_a_stage_runs_there_with_the_askers_folder_environment_and_streams(warm: Warm) -> None:
    asker = warm.begin("stage", "manifest", FLAWLINE_TEST="seen")
    out, err = asker.communicate(timeout=SECONDS)
    words = out.split(maxsplit=4)
    assert asker.returncode == 0 and err == "beside\n"
    assert words[2:4] == [str(ROOT), "seen"] and words[4].strip() == "['flawline', 'stage', 'manifest']"
    assert int(words[1]) not in (asker.pid, warm.process.pid)


def test_a_refusal_comes_back_as_it_is(warm: Warm, tmp_path: Path) -> None:
    asker = warm.begin("stage", "manifest", FLAWLINE_WORKSPACE=str(tmp_path))
    out, err = asker.communicate(timeout=SECONDS)
    assert asker.returncode == 2 and out == ""
    assert err.startswith("error: ") and str(tmp_path) in err and err.count("\n") == 1


def test_a_command_line_without_a_stage_is_answered_as_ever(warm: Warm) -> None:
    asker = warm.begin("stage")
    assert "Usage" in asker.communicate(timeout=SECONDS)[0]
    assert warm.begin("stage", "manifest").wait(SECONDS) == 0


def test_one_stage_leaves_nothing_to_the_next(warm: Warm) -> None:
    for _ in range(2):
        asker = warm.begin("stage", "manifest", FLAWLINE_TEST="seen")
        assert asker.wait(SECONDS) == 0
    asker = warm.begin("stage", "manifest")
    assert " None " in asker.communicate(timeout=SECONDS)[0]
    assert warm.process.poll() is None


def test_a_stage_ends_with_its_asker(warm: Warm) -> None:
    asker, stage = warm.waiting()
    asker.kill()
    assert gone(stage)
    assert warm.begin("stage", "manifest").wait(SECONDS) == 0  # and the next one is served


@pytest.mark.parametrize("said", [b"", b"abc", (99).to_bytes(8, "big") + b"{"])
def test_an_asker_that_ends_while_it_asks_does_no_harm(warm: Warm, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(warm.address))
        socket.send_fds(asker, [said], [0, 1, 2]) if said else None
    assert warm.begin("stage", "manifest").wait(SECONDS) == 0
    assert warm.process.poll() is None


def test_edited_sources_are_loaded_anew(tmp_path: Path) -> None:
    """Else DVC would note files that did not run."""
    shutil.copytree(
        ROOT / "src" / "flawline", tmp_path / "flawline", ignore=shutil.ignore_patterns("__pycache__")
    )
    warm = Warm(tmp_path)
    source = tmp_path / "flawline" / "line" / "warm.py"
    try:
        path = {"PYTHONPATH": str(tmp_path)}
        before = warm.begin("stage", "manifest", **path)
        assert "stage', 'manifest']" in before.communicate(timeout=SECONDS)[0]
        source.write_text(
            source.read_text(encoding="utf-8") + "\nprint('edited', __name__)\n", encoding="utf-8"
        )
        after = warm.begin("stage", "--help", **path)
        lines = after.communicate(timeout=SECONDS)[0].splitlines()
        assert lines.count("edited flawline.line.warm") == 2  # the asker loads it, and so does the stage
        assert after.returncode == 0 and warm.process.poll() is None
    finally:
        warm.close()


def test_a_killed_stage_looks_killed(warm: Warm) -> None:
    asker, stage = warm.waiting()
    stage.kill()
    assert asker.wait(SECONDS) == -signal.SIGKILL


@pytest.mark.parametrize("end", [Warm.close, lambda warm: warm.process.terminate()], ids=["closed", "term"])
def test_its_end_is_the_stages_end(warm: Warm, end: Callable[[Warm], None]) -> None:
    asker, stage = warm.waiting()
    end(warm)
    assert gone(stage) and asker.wait(SECONDS) != 0
    warm.process.wait(SECONDS)
    assert not warm.address.parent.exists()


def test_where_it_died_the_command_runs_by_itself(warm: Warm, tmp_path: Path) -> None:
    warm.process.kill()
    warm.process.wait(SECONDS)
    asker = warm.begin("stage", "manifest", FLAWLINE_WORKSPACE=str(tmp_path))
    assert "params.yaml" in asker.communicate(timeout=SECONDS)[1] and asker.returncode == 2
    warm.address.unlink()
    warm.address.parent.rmdir()


def test_only_stages_are_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ADDRESS, str(tmp_path / "none"))
    assert ask(["retrain"]) is None and ask([]) is None
    assert ask(["stage", "manifest"]) is None  # nobody listens
    monkeypatch.delenv(ADDRESS)
    assert ask(["stage", "manifest"]) is None
