"""What runs by itself: the flows of a workspace as deployments on a Prefect server, with schedules and triggers.

    retrain    on a cron schedule, and on the event of a new defect type
    evaluate   when asked: any prompt set on the test sets
    data       every few seconds: looks for new defect types and announces them
    watch      every few minutes, where params.yaml names a source: scores incoming images

A server may hold several workspaces: each has deployments of its own, named after it, and answers its own events only.
"""

import shlex
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    WorkPool,
)
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.settings import PREFECT_API_URL

from flawline.errors import FlawlineError
from flawline.new_types import events
from flawline.settings import Settings
from flawline.workspace import Workspace

PROCESS = "process"
_CHECKOUT = Path(__file__).absolute().parent.parent
# A server that has just started may be busy with what it missed: with SQLite it then says 503.
_BUSY_WAITS = (2.0, 5.0, 10.0, 20.0)
# A server that restarts is away for less than a minute, after which a run would have given up by default.
_RUN_ENVIRONMENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}


@dataclass(frozen=True)
class Deployed:
    """A deployment on the server.

    Attributes:
        name: `flow/deployment`, as `prefect deployment run` takes it.
        id: on the server.
        when: in words.
    """

    name: str
    id: UUID
    when: str


@dataclass(frozen=True)
class _Plan:
    flow: Flow[..., Any]
    about: str
    when: str
    schedule: Schedule | None = None
    trigger: DeploymentEventTrigger | None = None
    collision: ConcurrencyLimitStrategy | None = ConcurrencyLimitStrategy.ENQUEUE


def deploy(workspace: Workspace, settings: Settings) -> list[Deployed]:
    """Bring the workspace's deployments on the server of PREFECT_API_URL up to date with params.yaml.

    Again with the same settings changes nothing that matters; what is not wanted any more is removed.

    Raises:
        FlawlineError: no server is named or it does not answer, or a setting of `schedule` is impossible.
    """
    from httpx import HTTPError

    server = PREFECT_API_URL.value()
    if not server:
        raise FlawlineError(
            "no Prefect server is named", "set PREFECT_API_URL, or run make ui, which deploys to its own"
        )
    plans = _plans(workspace, settings)
    for pause in (*_BUSY_WAITS, None):
        try:
            return _deploy(workspace, settings.schedule.work_pool, plans)
        except (HTTPError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            if pause is None or "503" not in why:
                raise FlawlineError(
                    f"cannot deploy to the Prefect server {server}: {why}",
                    "start it (make ui), or correct the address",
                ) from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def _deploy(workspace: Workspace, pool_name: str, plans: list[_Plan]) -> list[Deployed]:
    with get_client(sync_client=True) as client:
        client.hello().raise_for_status()
        pool = _work_pool(client, pool_name)
        done = [_apply(client, workspace, plan, pool) for plan in plans]
        _remove_others(client, workspace, {deployed.id for deployed in done})
    return done


def _plans(workspace: Workspace, settings: Settings) -> list[_Plan]:
    from flows.data_watch import look_at_data
    from flows.evaluate import evaluate
    from flows.retrain import retrain

    schedule = settings.schedule
    cron, when = None, ""
    if schedule.cron:
        cron, when = _cron(schedule.cron, schedule.timezone), f"cron {schedule.cron} ({schedule.timezone}), "
    plans = [
        _Plan(
            retrain,
            "From data to a promoted prompt set; only what has to run.",
            f"{when}event {events.NEW_TYPE}",
            cron,
            _on_new_type(workspace),
        ),
        _Plan(evaluate, "A prompt set of the registry, or a folder, on the test sets.", "when asked"),
        _Plan(
            look_at_data,
            "Looks for new defect types in data/ and announces them.",
            f"every {schedule.look_seconds} s",
            _interval(schedule.look_seconds),
            # It is the one that frees the places of dead runs, so it must not need one; it has a lock of its own.
            collision=None,
        ),
    ]
    return plans + _watch(settings)


def _watch(settings: Settings) -> list[_Plan]:
    """The watch, where params.yaml names what it shall look at."""
    watch = getattr(settings, "watch", None)
    if watch is None or not getattr(watch, "source", None):
        return []
    seconds = int(watch.interval)
    return [
        _Plan(
            import_module("flows.watch").watch,
            "Scores incoming images, collects what matches no known type, and watches for drift.",
            f"every {seconds} s",
            _interval(seconds),
            collision=ConcurrencyLimitStrategy.CANCEL_NEW,
        )
    ]


def _on_new_type(workspace: Workspace) -> DeploymentEventTrigger:
    return DeploymentEventTrigger(
        name=f"new defect type in {events.workspace_key(workspace)}",
        expect={events.NEW_TYPE},
        match={"prefect.resource.id": events.resource(workspace)},
        parameters={
            "root": str(workspace.root),
            **{name: f"{{{{ event.payload.{name} }}}}" for name in ("dataset", "defect", "event_id")},
        },
    )


def _cron(cron: str, timezone: str) -> Schedule:
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise FlawlineError(
            f"schedule.cron '{cron}' in schedule.timezone '{timezone}' is no schedule: "
            f"{' '.join(str(error).split())[:200]}",
            "five fields (minute hour day month weekday), and a name such as Europe/Berlin",
        ) from error
    return Schedule(cron=cron, timezone=timezone)


def _interval(seconds: int) -> Schedule:
    IntervalSchedule(interval=timedelta(seconds=seconds))
    return Schedule(interval=timedelta(seconds=seconds))


def _apply(client: SyncPrefectClient, workspace: Workspace, plan: _Plan, pool: WorkPool) -> Deployed:
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=plan.collision) if plan.collision else None
    deployment = RunnerDeployment.from_flow(
        plan.flow,
        name=events.workspace_key(workspace),
        schedules=[plan.schedule] if plan.schedule else [],
        triggers=[plan.trigger] if plan.trigger else [],
        parameters={"root": str(workspace.root)},
        description=f"{plan.about}\n\nRuns {plan.when}. Workspace: `{workspace.root}`",
        tags=["flawline", events.workspace_key(workspace)],
        concurrency_limit=limit,
        work_pool_name=pool.name,
        job_variables=_job_variables(workspace, pool),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    identity = cast(UUID, deployment.apply())  # typed for both of its colours
    return Deployed(f"{plan.flow.name}/{deployment.name}", identity, plan.when)


def _job_variables(workspace: Workspace, pool: WorkPool) -> dict[str, Any]:
    """What a run needs to find this checkout and this Python; a pool of containers brings its own."""
    environment = {**_RUN_ENVIRONMENT, "FLAWLINE_WORKSPACE": str(workspace.root)}
    if pool.type != PROCESS:
        return {"env": environment}
    command = f"{shlex.quote(sys.executable)} -m prefect.engine"
    return {"env": environment, "working_dir": str(_CHECKOUT), "command": command}


def _work_pool(client: SyncPrefectClient, name: str) -> WorkPool:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        return client.create_work_pool(WorkPoolCreate(name=name, type=PROCESS, base_job_template=template))


def _remove_others(client: SyncPrefectClient, workspace: Workspace, wanted: set[UUID]) -> None:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    mine = DeploymentFilter(tags=DeploymentFilterTags(all_=[events.workspace_key(workspace)]))
    for found in client.read_deployments(deployment_filter=mine):
        if found.id not in wanted:
            client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
            client.delete_deployment(found.id)
