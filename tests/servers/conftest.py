"""Servers that all tests of a session share, and workers of one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "tests" / "servers"):
    sys.path.insert(0, str(folder))

from running import MlflowServer, PrefectServer, Service, clean_environment  # noqa: E402


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server on loopback; `.api` is its address."""
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    try:
        yield server.start()  # type: ignore[misc]
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server on loopback; `.uri` is its address."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        yield server.start()  # type: ignore[misc]
    finally:
        server.stop()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """`worker(api, pool, **environment)` starts a process worker on a pool of a server; it ends with the test."""
    running: list[Service] = []

    def start(api: str, pool: str, **environment: str) -> Service:
        service = Service(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool],
            tmp_path / f"worker-{len(running)}.log",
            clean_environment(
                PREFECT_API_URL=api,
                PREFECT_HOME=str(tmp_path / "prefect"),
                PREFECT_WORKER_QUERY_SECONDS="1",
                PREFECT_LOGGING_LEVEL="INFO",
                **environment,
            ),
            cwd=tmp_path,
        )
        running.append(service)
        return service.start()

    yield start
    for service in running:
        service.stop()
