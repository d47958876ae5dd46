"""Turns at a shared registry: one at a time across processes, and the dead do not block the living."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.track import turns
from flawline.track.store import Store, open_store
from flawline.track.turns import turn
from flawline.workspace import Workspace

COUNT = """
import sys, time
from pathlib import Path
from mlflow.tracking import MlflowClient
from flawline.track.store import Store
from flawline.track.turns import turn
uri, file = sys.argv[1], Path(sys.argv[2])
store = Store(MlflowClient(tracking_uri=uri), uri, "0")
for _ in range(4):
    with turn(store, "small", 120):
        number = int(file.read_text())
        time.sleep(0.05)
        file.write_text(str(number + 1))
"""


@pytest.fixture
def store(workspace: Workspace, settings: Settings) -> Store:
    return open_store(workspace, settings)


def tickets(store: Store) -> list[str]:
    return [found.version for found in store.client.search_model_versions("name = 'small.turns'")]


def test_two_processes_take_turns(store: Store, tmp_path: Path) -> None:
    """Reading, waiting and writing would lose counts if both were inside."""
    file = tmp_path / "count"
    file.write_text("0")
    command = [sys.executable, "-c", COUNT, store.uri, str(file)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, told = process.communicate(timeout=240)
        assert process.returncode == 0, told
    assert file.read_text() == "8" and tickets(store) == []


def test_who_waits_too_long_is_told_who_holds_it(store: Store) -> None:
    held = r"another promotion holds .* process \d+"
    with turn(store, "small", 5), pytest.raises(FlawlineError, match=held), turn(store, "small", 0.3):
        pytest.fail("two at once")
    with turn(store, "small", 0.3):
        pass
    assert tickets(store) == []


def test_the_ticket_of_a_killed_process_is_cleared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with monkeypatch.context() as patched:
        patched.setattr(turns, "_myself", lambda: f"{turns._machine()} process {gone.pid} of 12.00")
        turns._take(store.client, "small.turns")
        patched.setattr(turns, "_myself", lambda: f"{turns._machine()} process 1 of 99999999.00")
        turns._take(store.client, "small.turns")
    assert len(tickets(store)) == 2
    with turn(store, "small", 5):
        assert len(tickets(store)) == 1
    assert tickets(store) == []


def test_a_ticket_of_another_machine_holds_until_it_is_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(turns, "_myself", lambda: "elsewhere pid:[1] process 7 of 1.00")
        turns._take(store.client, "small.turns")
    with pytest.raises(FlawlineError, match="elsewhere"), turn(store, "small", 0.3):
        pytest.fail("another machine's process may live")
    monkeypatch.setattr(turns, "_FORGOTTEN_MS", 0)
    with turn(store, "small", 5):
        pass


def test_an_error_inside_gives_the_turn_back(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), turn(store, "small", 5):
        raise ZeroDivisionError
    assert tickets(store) == []


def test_threads_of_one_process_take_turns_too(store: Store) -> None:
    inside, most = [], []

    def work() -> None:
        with turn(store, "small", 60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == [1, 1, 1]
