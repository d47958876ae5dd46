"""The start scripts of mlflow/ as the tests run them: on free ports, watched until they answer, stopped whole."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This process' environment without what names a store, a server or a key."""
    names = (
        "MLFLOW_TRACKING",
        "MLFLOW_BACKEND",
        "MLFLOW_ARTIFACTS_DEST",
        "PREFECT_",
        "AWS_",
        "PG",
        "FLAWLINE_",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


@contextmanager
def script(
    name: str, environment: Mapping[str, str], log: Path, answers: str | None, *arguments: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `mlflow/<name>` until the block ends.

    Args:
        name: of the script.
        environment: all of it.
        log: what it says goes there.
        answers: address that answers 200 when it is up; None: it is not waited for.
        arguments: of the script.
    """
    with log.open("ab") as told:
        process = subprocess.Popen(
            ["sh", str(ROOT / "mlflow" / name), *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        if answers:
            _wait(process, answers, log)
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(address, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise AssertionError(log.read_text(errors="replace")[-3000:])
