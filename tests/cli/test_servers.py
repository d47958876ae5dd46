"""Servers under `flawline ui`: up, told, stopped with everything they started."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flawline.cli import servers
from flawline.cli.servers import Server, serve
from flawline.errors import FlawlineError

# A server that starts a worker of its own and notes its number, as MLflow and Prefect do.
WITH_WORKER = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("worker", worker.pid, flush=True)
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server(code: str, name: str = "Toy") -> Server:
    port = free_port()
    return Server(name, (sys.executable, "-c", code, str(port)), "127.0.0.1", port, "/")


def alive(pid: int) -> bool:
    """Running, and not only waiting for its parent to fetch its exit code."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def test_ctrl_c_stops_servers_and_their_workers(tmp_path: Path) -> None:
    told = []

    def ready(addresses: dict[str, str]) -> None:
        told.append(addresses)
        os.kill(os.getpid(), signal.SIGINT)

    toys = [server(WITH_WORKER, "One"), server(WITH_WORKER, "Two")]
    before = signal.getsignal(signal.SIGINT)
    serve(toys, tmp_path, ready)
    assert told == [{toy.name: toy.address for toy in toys}]
    assert signal.getsignal(signal.SIGINT) is before
    for name in ("one", "two"):
        worker = int((tmp_path / f"{name}.log").read_text().split()[1])
        assert not alive(worker)


def test_a_termination_signal_is_as_clean(tmp_path: Path) -> None:
    toy = server(WITH_WORKER)
    code = (
        "import sys; from pathlib import Path; from flawline.cli.servers import Server, serve\n"
        f"serve([Server('Toy', {tuple(toy.command)!r}, '127.0.0.1', {toy.port}, '/')], Path(sys.argv[1]),"
        " lambda addresses: print('ready', flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
    assert not alive(int((tmp_path / "toy.log").read_text().split()[1]))


def test_a_stubborn_server_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "STOP_SECONDS", 0.5)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WITH_WORKER
    serve([server(stubborn)], tmp_path, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert not alive(int((tmp_path / "toy.log").read_text().split()[1]))


def test_a_server_that_ends_is_told_with_its_log_and_the_others_stop(tmp_path: Path) -> None:
    healthy, dying = server(WITH_WORKER, "Healthy"), server("raise SystemExit(3)", "Dying")
    with pytest.raises(FlawlineError, match=r"Dying ended with code 3.*dying\.log"):
        serve([healthy, dying], tmp_path, lambda _: pytest.fail("must not be ready"))
    assert not alive(int((tmp_path / "healthy.log").read_text().split()[1]))


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(FlawlineError, match="did not answer"):
        serve([server("import time; time.sleep(600)")], tmp_path, lambda _: None)
    assert time.monotonic() - start < 15


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    toy = server(WITH_WORKER)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", toy.port))
        taken.listen()
        with pytest.raises(FlawlineError, match=rf"port {toy.port} is taken.*--toy-port"):
            serve([toy], tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
