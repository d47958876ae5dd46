"""`flawline ui`: the Prefect and MLflow servers of this workspace and a worker, on loopback, until Ctrl-C."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.cli.servers import Server
    from flawline.settings import Settings

_LOOPBACK = "127.0.0.1"
# Of our own server and worker. Leases in files: those in memory are forgotten when the server restarts, and the slot
# of a run that dies after that would stay taken for ever. Runs are planned for minutes, not for an hour: after a pause
# all of them are late at once.
_OURS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT3M",
    "PREFECT_WORKER_QUERY_SECONDS": "5",
}


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The line")(ui)


def ui(
    prefect_port: Annotated[int, typer.Option(min=1024, max=65535)] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1024, max=65535)] = 5000,
    worker: Annotated[
        bool, typer.Option(help="Deploy the workspace's flows and run what is due or triggered.")
    ] = True,
) -> None:
    """Serve the Prefect and MLflow pages on loopback, and run what is due, until Ctrl-C."""
    from flawline.cli.servers import serve
    from flawline.track import environment

    workspace, settings = here()
    own = "PREFECT_API_URL" not in os.environ
    if own and (running := environment.running_server(workspace)):
        raise FlawlineError(f"flawline ui runs here already, at {running}", "look there, or stop it first")
    environment.prepare(workspace)
    if worker:
        _fill_in_data(workspace)
    servers = []
    if own:
        for name, value in _OURS.items():
            os.environ.setdefault(name, value)
        # The page asks the API from the browser, by default at the default port.
        os.environ.setdefault("PREFECT_SERVER_UI_API_URL", f"http://{_LOOPBACK}:{prefect_port}/api")
        command = ["-m", "prefect", "server", "start", "--host", _LOOPBACK, "--port", str(prefect_port)]
        servers.append(_server("Prefect", command, prefect_port, "/api/health"))
    else:
        typer.echo(f"Prefect  {os.environ['PREFECT_API_URL']}  (a server of its own, from PREFECT_API_URL)")
    servers += _mlflow(workspace, settings, mlflow_port)
    lines: list[str] = []

    with ExitStack() as stack:

        def then(addresses: dict[str, str]) -> Sequence["Server"]:
            if own:
                os.environ["PREFECT_API_URL"] = f"{addresses['Prefect']}/api"
                stack.enter_context(environment.named_server(workspace, os.environ["PREFECT_API_URL"]))
            return _worker(workspace, settings, alone=own, lines=lines) if worker else []

        def tell(addresses: dict[str, str]) -> None:
            for name, address in addresses.items():
                typer.echo(f"{name:<8} {address}")
            for line in [*lines, "Ctrl-C stops them"]:
                typer.echo(line)

        if servers or worker:
            serve(servers, workspace.state / "logs", tell, then)


def _server(name: str, command: Sequence[str], port: int, health: str) -> "Server":
    from flawline.cli.servers import Server

    return Server(name, [sys.executable, *command], _LOOPBACK, port, health)


def _mlflow(workspace: Workspace, settings: "Settings", port: int) -> list["Server"]:
    """The server of the embedded store, unless params.yaml or the environment names one."""
    from flawline.cli.servers import Server
    from flawline.track import store

    uri = store.tracking_uri(workspace, settings)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"MLflow   {uri}  (a server of its own)")
        return []
    script = workspace.root / "mlflow" / "start.sh"
    if not script.is_file():
        raise FlawlineError(f"{script} is missing", "run inside a flawline checkout")
    store.open_store(workspace, settings)  # so that the server need not make the database at its start
    os.environ |= {
        "MLFLOW_HOST": _LOOPBACK,
        "MLFLOW_PORT": str(port),
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    return [Server("MLflow", ["sh", str(script)], _LOOPBACK, port, "/health")]


def _worker(workspace: Workspace, settings: "Settings", alone: bool, lines: list[str]) -> list["Server"]:
    """Deploy, tell the server which runs died with an earlier worker, and name the new worker."""
    from flawline.cli.deploy import find_flows
    from flawline.cli.servers import Server

    find_flows(workspace)
    from flows.dead_runs import bury, bury_all
    from flows.deployments import deploy

    deployed = deploy(workspace, settings)
    lines += [f"{one.name}: {one.when}" for one in deployed]
    if alone:
        bury_all(workspace, [one.id for one in deployed])
    else:
        bury(workspace)
    command = ["-m", "prefect", "worker", "start", "--pool", settings.schedule.work_pool]
    return [Server("worker", [sys.executable, *command])]


def _fill_in_data(workspace: Workspace) -> None:
    """On a fresh clone data/ is missing, and nobody could put a new type into it."""
    if workspace.data.is_dir() or not (workspace.root / "data.dvc").is_file():
        return
    from flawline.data.versioning import pull

    typer.echo(f"data     {pull(workspace, ['data.dvc'])['data.dvc']}")
