"""The real servers: up on loopback, down without leaving anything behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from flawline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
    return False


def environment(workspace: Workspace) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    return {**plain, "FLAWLINE_WORKSPACE": str(workspace.root), "PYTHONUNBUFFERED": "1"}


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def living(processes: list[psutil.Process]) -> list[int]:
    _, alive = psutil.wait_procs(processes, timeout=5)
    return [process.pid for process in alive]


def test_ui_starts_both_servers_and_ctrl_c_stops_them(workspace: Workspace) -> None:
    shutil.copytree(ROOT / "mlflow", workspace.root / "mlflow")
    prefect, mlflow = free_port(), free_port()
    command = [sys.executable, "-m", "flawline", "ui", "--no-worker"]  # with one: tests/servers/orchestration
    ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    process = subprocess.Popen(
        [*command, *ports], env=environment(workspace), cwd=workspace.root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(2)]
        assert f"http://127.0.0.1:{prefect}" in told[0] and f"http://127.0.0.1:{mlflow}" in told[1]
        assert answers(f"http://127.0.0.1:{prefect}/api/health", 5)
        assert answers(f"http://127.0.0.1:{mlflow}/health", 5)
        children = family(process)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0 and living(children) == []
    finally:
        process.kill()


def test_the_start_script_serves_the_embedded_store(workspace: Workspace) -> None:
    port = free_port()
    process = subprocess.Popen(
        [str(ROOT / "mlflow" / "start.sh")],
        env={**environment(workspace), "MLFLOW_PORT": str(port)},
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert answers(f"http://127.0.0.1:{port}/health", 90)
        children = family(process)
        process.terminate()
        process.wait(30)
        assert living(children) == []
    finally:
        process.kill()
    assert not (ROOT / "mlflow" / "__init__.py").exists(), "it would hide the library"
