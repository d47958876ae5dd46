"""Child servers: started in process groups of their own, watched until they answer, stopped whole."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flawline.errors import FlawlineError

START_SECONDS = 90.0
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Server:
    """How to start one server and how to ask whether it is up; without a port, being there is all that is asked."""

    name: str
    command: Sequence[str]
    host: str = ""
    port: int | None = None
    health: str = ""

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"


def serve(
    servers: Sequence[Server],
    logs: Path,
    ready: Callable[[dict[str, str]], None],
    then: Callable[[dict[str, str]], Sequence[Server]] = lambda addresses: (),
) -> None:
    """Run the servers until Ctrl-C or SIGTERM, then stop them all, the last one first, with all that they started.

    Args:
        servers: what to run.
        logs: folder for one log file a server.
        ready: called once with {name: address} when all of them answer.
        then: called before that with the same, and may name more to run, which need those that answer.

    Raises:
        FlawlineError: a port is taken, or a server ends by itself or never answers; its log is named.
    """
    for server in servers:
        _require_free(server)
    with _interruptible(), ExitStack() as stack, suppress(KeyboardInterrupt):
        running = [(server, stack.enter_context(_child(server, logs))) for server in servers]
        for server, process in running:
            _wait_until_up(server, process, logs)
        addresses = {server.name: server.address for server in servers if server.port}
        running += [(server, stack.enter_context(_child(server, logs))) for server in then(addresses)]
        ready(addresses)
        while True:
            for server, process in running:
                _require_alive(server, process, logs)
            time.sleep(_POLL_SECONDS)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM stops as cleanly as Ctrl-C; SIGINT works even where a shell's `&` made us ignore it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _child(server: Server, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    logs.mkdir(parents=True, exist_ok=True)
    with _log(server, logs).open("wb") as log:
        # A session of its own: Ctrl-C on the terminal reaches us alone, and the group can be stopped whole.
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=logs,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, its group, and what left its group: a worker's runs start commands in groups of their own."""
    import psutil

    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    _stop_group(process)
    _, left = psutil.wait_procs(family, timeout=_POLL_SECONDS)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(number)
        _, left = psutil.wait_procs(left, timeout=STOP_SECONDS)


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            if not _group_lives(process.pid):
                return


def _group_lives(group: int) -> bool:
    """Whether workers of a server outlive it; they get a moment to end by themselves."""
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _wait_until_up(server: Server, process: subprocess.Popen[bytes], logs: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        _require_alive(server, process, logs)
        if _answers(server):
            return
        time.sleep(_POLL_SECONDS)
    raise FlawlineError(
        f"{server.name} did not answer within {START_SECONDS:.0f} s", f"read {_log(server, logs)}"
    )


def _answers(server: Server) -> bool:
    if server.port is None:
        return True
    try:
        with urllib.request.urlopen(server.address + server.health, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _require_free(server: Server) -> None:
    if server.port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            raise FlawlineError(
                f"port {server.port} is taken, {server.name} cannot start",
                f"stop what uses it, or choose another: flawline ui --{server.name.lower()}-port N",
            ) from error


def _require_alive(server: Server, process: subprocess.Popen[bytes], logs: Path) -> None:
    code = process.poll()
    if code is not None:
        raise FlawlineError(f"{server.name} ended with code {code}", f"read {_log(server, logs)}")


def _log(server: Server, logs: Path) -> Path:
    return logs / f"{server.name.lower()}.log"
