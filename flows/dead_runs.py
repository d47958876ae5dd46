"""Runs whose process was killed: the server cannot know, so the next of ours that lives tells it.

Every run of a deployment leaves a file in .state/runs/ while it lives: its process, told by its number, its start and
the machine. Prefect's own means, missing heartbeats, needs minutes, and takes a busy machine for a dead one; whether a
process of this machine lives is certain at once. A run that died on another machine is told by the next one there.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from flawline.errors import FlawlineError
from flawline.files import read_json, write_json
from flawline.line.recover import alive, began
from flawline.workspace import Workspace
from flows.stages import say

AGAIN = "again after a crash"  # a tag; such a run is not started a third time
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_KILLED = "its process was killed"


def patience() -> float | None:
    """How long a flow waits for another one in its workspace: a deployment's run as long as it takes, a person not."""
    from prefect.runtime import deployment

    return None if deployment.id else 0


@contextmanager
def living_run(workspace: Workspace) -> Iterator[None]:
    """Enter in a flow: leaves a trace while it lives, and buries those of this workspace that died without a word."""
    from prefect.runtime import deployment, flow_run

    if not (deployment.id and flow_run.id):  # by hand: whoever killed it saw it die
        yield
        return
    trace = _folder(workspace) / f"{flow_run.id}.json"
    write_json(trace, {"pid": os.getpid(), "began": began(os.getpid()), **_machine()})
    try:
        bury(workspace)
        yield
    finally:
        trace.unlink(missing_ok=True)


def bury(workspace: Workspace) -> list[str]:
    """Tell the server of runs whose process is dead; a retraining among them is started once more.

    Returns:
        A line for each.
    """
    from prefect.client.orchestration import get_client

    dead = [trace for trace in sorted(_folder(workspace).glob("*.json")) if _is_dead(trace)]
    told: list[str] = []
    if not dead:
        return told
    with get_client(sync_client=True) as client:
        for trace in dead:
            told += _bury(client, UUID(trace.stem))
            trace.unlink(missing_ok=True)
    return told


def bury_all(workspace: Workspace, deployments: list[UUID]) -> list[str]:
    """Like `bury`, and also what was handed to a worker and never began; only where no worker lives anywhere.

    Of the scheduled runs that were missed meanwhile, one of each deployment stays to be caught up with.

    Args:
        workspace: whose.
        deployments: its deployments on the server.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    told = bury(workspace)
    begun = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        left = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=begun))),
            deployment_filter=_of(deployments),
        )
        for run in left:
            trace = _folder(workspace) / f"{run.id}.json"
            if not trace.is_file():  # else it lives, maybe on another machine
                told += _bury(client, run.id)
        for deployment in deployments:
            _drop_missed(client, deployment)
    return told


def _drop_missed(client: Any, deployment: UUID) -> None:
    """Delete the scheduled runs whose time has passed, all but the last; after a pause there may be hundreds."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    missed = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=cast(Any, datetime.now(UTC))),
    )
    while True:
        found = client.read_flow_runs(
            flow_run_filter=missed,
            deployment_filter=_of([deployment]),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        old = [run for run in found if run.auto_scheduled][1:]
        for run in old:
            client.delete_flow_run(run.id)
        if not old:
            return


def _of(deployments: list[UUID]) -> Any:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    return DeploymentFilter(id=DeploymentFilterId(any_=deployments))


def _bury(client: Any, run_id: UUID) -> list[str]:
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    try:
        run = client.read_flow_run(run_id)
    except ObjectNotFound:  # of another server, or deleted there
        return []
    if run.state is not None and run.state.is_final():
        return []
    client.set_flow_run_state(run_id, Crashed(message=_KILLED))
    told = [f"run {run.name} is marked as crashed: {_KILLED}"]
    if run.deployment_id and AGAIN not in run.tags and _is_retraining(client, run.flow_id):
        again = client.create_flow_run_from_deployment(
            run.deployment_id, parameters=run.parameters, tags=[AGAIN], idempotency_key=f"again-{run_id}"
        )
        told.append(f"run {again.name} takes its place")
    for line in told:
        say(line)
    return told


def _is_retraining(client: Any, flow_id: UUID) -> bool:
    return bool(client.read_flow(flow_id).name == "retrain")


def _is_dead(trace: Path) -> bool:
    with suppress(FlawlineError, KeyError, ValueError, TypeError):
        told, here = read_json(trace), _machine()
        if told["host"] != here["host"]:
            return False
        return told["boot"] != here["boot"] or not alive(int(told["pid"]), float(told["began"]))
    return False  # being written or removed right now


def _machine() -> dict[str, str]:
    boot = _BOOT.read_text(encoding="utf-8").strip() if _BOOT.is_file() else ""
    return {"host": socket.gethostname(), "boot": boot}


def _folder(workspace: Workspace) -> Path:
    return workspace.state / "runs"
