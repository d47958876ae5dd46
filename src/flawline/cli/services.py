"""`flawline ui`: the Prefect and MLflow servers of this workspace, on loopback, until Ctrl-C."""

import os
import sys
from typing import Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError

_LOOPBACK = "127.0.0.1"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The line")(ui)


def ui(
    prefect_port: Annotated[int, typer.Option(min=1024, max=65535)] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1024, max=65535)] = 5000,
) -> None:
    """Serve the Prefect and MLflow pages on loopback until Ctrl-C."""
    from flawline.cli.servers import Server, serve
    from flawline.track import environment, store

    workspace, settings = here()
    environment.prepare(workspace)
    servers = []
    if "PREFECT_API_URL" in os.environ:
        typer.echo(f"Prefect  {os.environ['PREFECT_API_URL']}  (a server of its own, from PREFECT_API_URL)")
    else:
        command = ["prefect", "server", "start", "--host", _LOOPBACK, "--port", str(prefect_port)]
        servers.append(
            Server("Prefect", [sys.executable, "-m", *command], _LOOPBACK, prefect_port, "/api/health")
        )
    uri = store.tracking_uri(workspace, settings)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"MLflow   {uri}  (a server of its own)")
    else:
        script = workspace.root / "mlflow" / "start.sh"
        if not script.is_file():
            raise FlawlineError(f"{script} is missing", "run inside a flawline checkout")
        store.open_store(workspace, settings)  # so that the server need not make the database at its start
        os.environ |= {
            "MLFLOW_HOST": _LOOPBACK,
            "MLFLOW_PORT": str(mlflow_port),
            "MLFLOW_BACKEND_STORE_URI": uri,
        }
        servers.append(Server("MLflow", ["sh", str(script)], _LOOPBACK, mlflow_port, "/health"))
    if not servers:
        return
    serve(servers, logs=workspace.state / "logs", ready=_tell)


def _tell(addresses: dict[str, str]) -> None:
    for name, address in addresses.items():
        typer.echo(f"{name:<8} {address}")
    if "Prefect" in addresses:
        typer.echo(f"to see runs live:  PREFECT_API_URL={addresses['Prefect']}/api flawline retrain")
    typer.echo("Ctrl-C stops them")
