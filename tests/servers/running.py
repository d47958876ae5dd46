"""Real servers for tests: started in sessions of their own, asked until they answer, stopped whole."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

START_SECONDS = 180.0
STOP_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """This process' environment without what names servers or workspaces."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT", "MLFLOW_TRACKING", "FLAWLINE_WORKSPACE", "FLAWLINE_OWNER", "AWS_"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **more}


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `condition` returns as soon as it is true of it; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.25)


class Service:
    """One program: start, ask, stop, start again at the same place.

    Args:
        command: what to run.
        log: where its output goes; kept over restarts.
        environment: all of it.
        health: address that answers 200 when it is up; none: being alive is enough.
        cwd: working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        health: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command, self.log, self.environment, self.health, self.cwd = (
            list(command), log, dict(environment), health, cwd,
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Service":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.cwd,
                start_new_session=True,
            )
        if self.health:
            wait_for(f"{self.health} answers; its log: {self.text()[-2000:]}", self._up, START_SECONDS)
        return self

    def _up(self) -> bool:
        assert self.process is not None and self.health is not None
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.text()[-2000:]}"
        try:
            with urllib.request.urlopen(self.health, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def family(self) -> list[psutil.Process]:
        """The process and everything below it."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def kill(self) -> list[psutil.Process]:
        """`kill -9` to it and everything below it, all at once; what they were."""
        family = self.family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait(STOP_SECONDS)
        psutil.wait_procs(family, timeout=STOP_SECONDS)
        return family

    def stop(self) -> None:
        """Politely, then not; nothing of it is left."""
        if self.process is None:
            return
        family = self.family()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
                break
        for process in psutil.wait_procs(family, timeout=2)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process = None


class PrefectServer(Service):
    """Prefect's server with its database below `home`.

    Attributes:
        api: for PREFECT_API_URL.
    """

    def __init__(self, home: Path) -> None:
        port = free_port()
        self.home, self.api = home, f"http://127.0.0.1:{port}/api"
        environment = clean_environment(
            PREFECT_HOME=str(home),
            PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="prefect.server.concurrency.lease_storage.filesystem",
            PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="2",
            PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME="PT3M",  # as `flawline ui` has it
            PREFECT_LOGGING_LEVEL="WARNING",
        )
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
        super().__init__(
            [sys.executable, "-m", *command], home / "server.log", environment, f"{self.api}/health"
        )


class MlflowServer(Service):
    """MLflow's server with database and artifacts below `home`.

    Attributes:
        uri: for MLFLOW_TRACKING_URI.
    """

    def __init__(self, home: Path) -> None:
        port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        self.uri = f"http://127.0.0.1:{port}"
        environment = clean_environment(
            MLFLOW_BACKEND_STORE_URI=f"sqlite:///{home / 'mlflow.db'}",
            MLFLOW_ARTIFACTS_DESTINATION=f"file://{home / 'artifacts'}",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        super().__init__(
            [sys.executable, "-m", *command], home / "server.log", environment, f"{self.uri}/health", home
        )
