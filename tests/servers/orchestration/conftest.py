"""A miniature workspace, deployed on the session's Prefect server."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import data_line
from running import PrefectServer, wait_for

from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Workspace


@dataclass
class Line:
    """A workspace and its deployments."""

    workspace: Workspace
    api: str

    @property
    def root(self) -> Path:
        return self.workspace.root

    @property
    def settings(self) -> Any:
        return load_settings(self.workspace.params)

    @property
    def pool(self) -> str:
        return str(self.settings.schedule.work_pool)

    @contextmanager
    def client(self) -> Iterator[Any]:
        from prefect.client.orchestration import get_client

        with self.here(), get_client(sync_client=True) as client:
            yield client

    @contextmanager
    def here(self) -> Iterator[None]:
        """Inside, this process speaks to the server."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.api}):
            yield

    def deploy(self) -> dict[str, UUID]:
        """The ids by flow name."""
        from flows.deployments import deploy

        with self.here():
            return {one.name.split("/")[0]: one.id for one in deploy(self.workspace, self.settings)}

    def start(self, flow: str = "retrain", off: timedelta = timedelta(0), **parameters: Any) -> UUID:
        """Ask for a run of a deployment, now by the server's clock, which is `off` from this process'."""
        from prefect.states import Scheduled

        from flawline.new_types.events import workspace_key

        with self.client() as client:
            deployment = client.read_deployment_by_name(f"{flow}/{workspace_key(self.workspace)}")
            given = {"root": str(self.root), **parameters}
            now = Scheduled(scheduled_time=datetime.now(UTC) + off)
            return client.create_flow_run_from_deployment(deployment.id, parameters=given, state=now).id

    def run(self, run: UUID) -> Any:
        with self.client() as client:
            return client.read_flow_run(run)

    def runs(self, flow: str = "retrain") -> list[Any]:
        """All runs of one of its deployments, the oldest first."""
        from prefect.client.schemas.filters import (
            FlowFilter,
            FlowFilterName,
            FlowRunFilter,
            FlowRunFilterTags,
        )

        from flawline.new_types.events import workspace_key

        with self.client() as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
                flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[workspace_key(self.workspace)])),
            )
        return sorted(found, key=lambda run: run.created)

    def ended(self, run: UUID, seconds: float = 300) -> Any:
        """The final state of a run."""

        def final() -> Any:
            state = self.run(run).state
            return state if state and state.is_final() else None

        return wait_for(f"run {run} ends; it is {self.run(run).state}", final, seconds)

    def begun(self, run: UUID) -> None:
        wait_for("the run begins", lambda: self.run(run).state.name == "Running")

    def logged(self) -> int:
        """Runs in MLflow."""
        store = open_store(self.workspace, self.settings)
        return len(store.client.search_runs([store.experiment_id]))

    def versions(self) -> list[registry.Version]:
        return registry.versions(self.workspace, self.settings)

    def decisions(self) -> list[str]:
        return sorted(path.name for path in self.workspace.decisions.glob("*.json"))

    def log(self, stage: str) -> str:
        file = self.workspace.state / "logs" / f"{stage}.log"
        return file.read_text() if file.is_file() else ""


@pytest.fixture
def line(tmp_path: Path, prefect_server: PrefectServer) -> Callable[..., Line]:
    """`line(**schedule)`: a new workspace that knows the session's server, nothing run and nothing deployed yet."""

    def make(name: str = "line", server: PrefectServer = prefect_server, **schedule: object) -> Line:
        quiet = {"work_pool": f"{tmp_path.name}-{name}"[:64], "look_seconds": 3600, "settle_seconds": 1.0}
        root = data_line.make_workspace(tmp_path / name, **{**quiet, **schedule})
        return Line(Workspace(root), server.api)

    return make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after one retraining that nothing disturbed, in this process and without a server: only read it."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    from flows.retrain import main

    root = data_line.make_workspace(tmp_path_factory.mktemp("undisturbed") / "line")
    with (
        prefect_test_harness(server_startup_timeout=180),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        main(root)
    return root


def restore(finished: Path, root: Path) -> None:
    """Give a workspace the finished one's cache: its stages are restored and not run again."""
    shutil.copytree(finished / ".dvc" / "cache", root / ".dvc" / "cache", dirs_exist_ok=True)
