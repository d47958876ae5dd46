"""`flawline retrain` and `flawline report`: run the line, and show what it left."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.settings import Settings

PANEL = "The line"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(retrain)
    app.command(rich_help_panel=PANEL)(report)


def retrain(
    force: Annotated[
        bool, typer.Option("--force", help="Run every stage, also those that are up to date.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change params.yaml first, e.g. tune.seeds=[0,1]."),
    ] = None,
) -> None:
    """Pull data, check, synthesise, tune, evaluate, log, gate, promote, report; only what has to run."""
    workspace = Workspace.find()
    if assignments:
        from flawline.cli.params import set_params

        set_params(workspace.params, assignments)
    _, settings = here()
    refuse_unknown_methods(settings)
    if not (workspace.root / "flows" / "retrain.py").is_file():
        raise FlawlineError(f"{workspace.root} has no flows/retrain.py", "run inside a flawline checkout")
    os.chdir(workspace.root)
    sys.path.insert(0, str(workspace.root))
    from flawline.prompts import validate_methods
    from flows.retrain import main

    main(workspace.root, force, meanwhile=lambda: validate_methods(settings))


def refuse_unknown_methods(settings: "Settings") -> None:
    """At once; their options, which need torch, may be checked beside other work."""
    from flawline.prompts import method_class, method_names

    for name in sorted({*settings.methods} - {*method_names()}):
        method_class(name)  # raises, and suggests the nearest name


def report() -> None:
    """Rebuild reports/index.html from the results and print its path."""
    from flawline.stages import report as stage

    workspace, settings = here()
    stage.run(workspace, settings)
    typer.echo(str(workspace.report))
