"""DVC asked and run: order, staleness, capture, and the kinds of failure."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

import small_line
from flawline.errors import ChecksFailed, FlawlineError
from flawline.line import pipeline
from flawline.line.pipeline import StageCrashed, after_decision, log_file, run, stages, stale
from flawline.workspace import Workspace

DVC_YAML = """\
stages:
  show: {cmd: cat b > page, deps: [b, decisions], outs: [page]}
  second: {cmd: "cut -c1 a > b; echo made b", deps: [a], outs: [b]}
  first:
    matrix: {size: [1, 2]}
    cmd: cat source > a${item.size}
    deps: [source]
    outs: ["a${item.size}"]
  join: {cmd: cat a1 a2 > a, deps: [a1, a2], outs: [a]}
  mail: {cmd: cat page > sent, deps: [page], outs: [sent]}
"""
ORDER = ["first@1", "first@2", "join", "second"]


def repo(root: Path, text: str) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dvc.yaml").write_text(text)
    (root / "decisions").mkdir()
    (root / "decisions" / "README.md").write_text("here")
    (root / "source").write_text("xyz\n")
    small_line.init_dvc(root)
    return Workspace(root)


@pytest.fixture
def line(tmp_path: Path) -> Workspace:
    return repo(tmp_path / "a b", DVC_YAML)


def one(tmp_path: Path, command: str, name: str = "only") -> Workspace:
    return repo(tmp_path / "w", f"stages:\n  {name}:\n    cmd: >-\n      {command}\n    outs: [out]\n")


def test_the_order_is_dvcs(line: Workspace) -> None:
    found = stages(line)
    names = [stage.name for stage in found]
    assert sorted(names) == sorted([*ORDER, "show", "mail"])
    for stage in found:
        assert all(names.index(up) < names.index(stage.name) for up in stage.upstream), stage
    assert {s.name: s.upstream for s in found}["join"] == ("first@1", "first@2")
    assert after_decision(found) == {"show", "mail"}


def test_the_working_directory_does_not_matter(
    line: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stages(line)
    monkeypatch.chdir(line.root / "decisions")
    assert stages(line) == here
    assert stale(line, ["join"]) == {"join"}
    assert run(line, "first@1") == "ran" and (line.root / "a1").read_text() == "xyz\n"


def test_running_makes_fresh_and_an_equal_output_stops_there(line: Workspace) -> None:
    everything = {*ORDER, "show", "mail"}
    assert stale(line) == everything
    for name in [*ORDER, "show", "mail"]:
        assert run(line, name) == "ran"
    assert stale(line) == set()
    assert run(line, "join") == "unchanged"
    (line.root / "source").write_text("xxx\n")
    assert stale(line) == {"first@1", "first@2"}
    for name in ("first@1", "first@2", "join", "second"):
        assert run(line, name) == "ran"
    assert stale(line) == set(), "b holds the same first letters, so nothing follows"


def test_finished_work_is_restored_from_the_run_cache(line: Workspace) -> None:
    run(line, "first@1")
    line.lock.unlink()
    (line.root / "a1").unlink()
    assert run(line, "first@1") == "restored"
    assert (line.root / "a1").read_text() == "xyz\n"
    assert run(line, "first@1", force=True) == "ran"


def test_output_is_heard_and_kept(line: Workspace) -> None:
    heard: list[str] = []
    for name in ORDER:
        run(line, name, on_line=heard.append)
    assert "made b" in heard
    assert "made b" in log_file(line, "second").read_text().splitlines()


def test_flawline_is_found_beside_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    workspace = one(tmp_path, "command -v python > out")
    run(workspace, "only")
    assert (workspace.root / "out").read_text().strip() == str(Path(sys.executable).parent / "python")


@pytest.mark.parametrize(("name", "kind"), [("only", FlawlineError), ("checks", ChecksFailed)])
def test_a_refused_input_is_told_in_the_stages_own_words(
    tmp_path: Path, name: str, kind: type[FlawlineError]
) -> None:
    workspace = one(tmp_path, "echo working; echo 'error: a.png is empty — replace it' >&2; exit 2", name)
    with pytest.raises(kind) as caught:
        run(workspace, name)
    assert str(caught.value) == "a.png is empty — replace it"
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("command", "words"),
    [("echo half way; exit 1", "exited with 1: half way"), ("kill -9 $$", "exited with -9")],
)
def test_a_crash_is_told_with_its_code_and_log(tmp_path: Path, command: str, words: str) -> None:
    workspace = one(tmp_path, command)
    with pytest.raises(StageCrashed) as caught:
        run(workspace, "only")
    assert words in str(caught.value) and str(log_file(workspace, "only")) in str(caught.value)


def test_what_dvc_itself_refuses_is_one_line(tmp_path: Path) -> None:
    workspace = repo(tmp_path / "w", "stages:\n  only: {cmd: 'true', deps: [nothing], outs: [out]}\n")
    with pytest.raises(FlawlineError, match="nothing") as caught:
        run(workspace, "only")
    assert "\n" not in str(caught.value)
    (workspace.root / "dvc.yaml").write_text("stages:\n  only: [\n")
    with pytest.raises(FlawlineError, match=r"dvc\.yaml"):
        stages(workspace)


def test_a_held_lock_is_waited_for(tmp_path: Path) -> None:
    """Longer than the three seconds after which DVC by itself gives up, before and after the command."""
    from dvc.repo import Repo

    workspace = one(
        tmp_path, "touch begun; until [ -f held ]; do sleep 0.1; done; echo ran >> ran.txt; touch out"
    )
    begun, held = workspace.root / "begun", workspace.root / "held"

    def hold(repo: Repo) -> None:
        with repo.lock:
            locked.set()
            time.sleep(4)
        while not begun.exists():
            time.sleep(0.1)
        with repo.lock:
            held.touch()
            time.sleep(4)

    locked = threading.Event()
    with Repo(str(workspace.root)) as repo:
        thread = threading.Thread(target=hold, args=[repo])
        thread.start()
        locked.wait(10)
        assert run(workspace, "only") == "ran"
        thread.join()
    assert (workspace.root / "ran.txt").read_text() == "ran\n", "a finished command is not repeated"
    assert stale(workspace) == set()


def test_an_interrupt_stops_the_stage(tmp_path: Path) -> None:
    import psutil

    workspace = one(tmp_path, "echo $$; exec sleep 600")
    pids: list[int] = []

    def interrupt(line: str) -> None:
        if line.isdigit():
            pids.append(int(line))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(workspace, "only", on_line=interrupt)
    gone = not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
    assert gone and pids[0] != os.getpid()


def test_log_files_have_plain_names(tmp_path: Path) -> None:
    path = pipeline.log_file(Workspace(tmp_path), "sub/dvc.yaml:tune@ü-0")
    assert path.parent == tmp_path / ".state" / "logs" and path.name == "sub_dvc.yaml_tune@_-0.log"
