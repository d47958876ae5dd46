"""The command line as a whole: fast help, one line an error, exit codes."""

import errno
import os
import resource
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import flawline
from flawline.cli.app import run
from flawline.errors import ChecksFailed, FlawlineError
from flawline.workspace import Workspace

STAGES = ["manifest", "checks", "synthesize", "features", "tune", "evaluate", "compare", "report"]
COMMANDS = [
    *([], ["retrain"], ["report"], ["score"], ["history"], ["rollback"], ["doctor"], ["ui"]),
    *(["pretrain"], ["samples"], ["data"], ["data", "add"], ["data", "list"], ["data", "check"], ["stage"]),
    *(["stage", name] for name in STAGES),
]
HEAVY = {
    "torch",
    "mlflow",
    "prefect",
    "great_expectations",
    "pandas",
    "dvc",
    "numpy",
    "matplotlib",
    "sklearn",
}


# --- help ---------------------------------------------------------------------------------------------


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = f"""
import sys
from flawline.cli.app import run
for command in {COMMANDS!r}:
    assert run([*command, "--help"]) == 0, command
    loaded = sorted({HEAVY!r} & set(sys.modules))
    assert not loaded, (command, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("retrain", "score", "history", "rollback", "doctor", "manifest"):
        assert command in done.stdout


def test_help_takes_half_a_second() -> None:
    """In processor time, best of five: other work on the machine must not fail it."""
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "flawline", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(took) < 0.5, took


def test_the_console_script_and_the_module_are_one() -> None:
    script = Path(sys.executable).parent / "flawline"
    outputs = {
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([str(script)], [sys.executable, "-m", "flawline"])
    }
    [line] = outputs
    assert line.startswith("flawline 0.")


def test_importing_flawline_is_light_and_tells_its_version() -> None:
    code = (
        "import sys, flawline; assert flawline.__version__.count('.') == 2; "
        f"assert not {HEAVY!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_the_projects(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert flawline.__version__ == project["version"]
    with pytest.raises(AttributeError, match="nonsense"):
        flawline.nonsense  # noqa: B018


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "'nonsense' — `flawline --help`"),
        (["stage", "tune", "--sed", "0"], "--sed"),
        (["stage", "tune", "--method", "words", "--train", "a", "--seed", "x"], "--seed"),
        (["stage", "tune", "--method", "words", "--train", "a"], "--seed"),
        (["stage", "features", "--part", "both", "--set", "a"], "--part"),
        (["score"], "`flawline score --help`"),
        (["data", "add", "somewhere"], "--name"),
    ],
)
def test_a_mistyped_command_is_one_line(
    at: Workspace, one_error: Callable[[], str], arguments: list[str], says: str
) -> None:
    assert run(arguments) == 2
    assert says in one_error()


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "retrain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (FlawlineError("data/ä is empty", "fill it"), 2, "error: data/ä is empty — fill it"),
        (
            ChecksFailed("castings/x.png: zero bytes", "replace it"),
            2,
            "error: castings/x.png: zero bytes — replace it",
        ),
        (FlawlineError("two\nlines"), 2, "error: two lines"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x"),
            2,
            "error: the disk is full while writing out/x",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: the disk is full — free some space"),
        (RuntimeError("a\nbug"), 1, "error: RuntimeError: a bug — run again with FLAWLINE_TRACEBACK=1"),
        (PermissionError(13, "Permission denied", "out"), 1, "error: PermissionError: "),
    ],
)
def test_every_error_is_one_line_with_its_exit_code(
    at: Workspace,
    stub: Callable[..., list],
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    stub("flawline.data.ingest", "list_datasets", raises=raised)
    assert run(["data", "list"]) == code
    line = capsys.readouterr().err.rstrip("\n").removeprefix("\n")
    assert line.startswith(says) and "\n" not in line


def test_the_traceback_can_be_kept(
    at: Workspace, stub: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAWLINE_TRACEBACK", "1")
    stub("flawline.data.ingest", "list_datasets", raises=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        run(["data", "list"])


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m flawline --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_outside_a_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_error: Callable[[], str]
) -> None:
    monkeypatch.delenv("FLAWLINE_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(["data", "list"]) == 2
    assert "no params.yaml" in one_error()


def test_the_workspace_option_reaches_children(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Callable[..., list]
) -> None:
    monkeypatch.setenv("FLAWLINE_WORKSPACE", "to be put back")
    monkeypatch.chdir(tmp_path)
    calls = stub("flawline.data.ingest", "list_datasets", returns=[])
    assert run(["--workspace", "wörk space", "data", "list"]) == 0
    assert calls == [(workspace,)]
    assert os.environ["FLAWLINE_WORKSPACE"] == str(workspace.root)


def test_children_find_this_flawline(at: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs `flawline stage …` by name, also where the environment was not activated."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run(["--version"]) == 0
    found = subprocess.run(["bash", "-c", "command -v flawline"], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).parent == Path(sys.executable).parent
