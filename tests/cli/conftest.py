"""The command line standing in a throw-away workspace, and recorders in the place of what it calls."""

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flawline.workspace import Workspace


@pytest.fixture
def at(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The command line standing in a workspace; what it changes in the process is put back."""
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(workspace.root))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(workspace.root)
    return workspace


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[Any, ...]]]:
    """Puts a recorder in the place of a function; the recorder demands the real one's signature."""

    def place(module: str, name: str, returns: Any = None, raises: BaseException | None = None) -> list:
        calls: list[tuple[Any, ...]] = []
        found = importlib.import_module(module)
        signature = inspect.signature(getattr(found, name))

        def recorder(*positional: Any, **named: Any) -> Any:
            calls.append(tuple(signature.bind(*positional, **named).arguments.values()))
            if raises is not None:
                raise raises
            return returns

        monkeypatch.setattr(found, name, recorder)
        return calls

    return place


@pytest.fixture
def one_error(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Reads standard error, which must be one line that starts with `error: `."""

    def read() -> str:
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return read
