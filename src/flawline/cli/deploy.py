"""`flawline deploy`: this workspace's flows on a Prefect server, with their schedules and triggers."""

import os
import sys

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError
from flawline.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The line")(deploy)


def deploy() -> None:
    """Put retraining, evaluation, data look and watch on the Prefect server of PREFECT_API_URL."""
    from flawline.track import environment

    workspace, settings = here()
    environment.prepare(workspace)
    find_flows(workspace)
    from flows.deployments import deploy as put

    for deployed in put(workspace, settings):
        typer.echo(f"{deployed.name}: {deployed.when}")
    typer.echo(f"a worker runs them:  prefect worker start --pool {settings.schedule.work_pool}")


def find_flows(workspace: Workspace) -> None:
    """Make the checkout's flows importable from here, as runs on a server will find them.

    Raises:
        FlawlineError: the workspace is no checkout.
    """
    if "flows" in sys.modules:
        return
    if not (workspace.root / "flows" / "deployments.py").is_file():
        raise FlawlineError(f"{workspace.root} has no flows/deployments.py", "run inside a flawline checkout")
    os.chdir(workspace.root)
    sys.path.insert(0, str(workspace.root))
