"""`flawline rerun`: make a recorded retraining again, and compare byte for byte."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flows.rerun import Rerun

_SHOWN = 40


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The line")(rerun)


def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="An MLflow run; its first characters do.")],
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to check it out. Default: below .state/rerun/.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the worktree also where everything is the same.")
    ] = False,
) -> None:
    """Make a recorded retraining again in a worktree of its own and compare every byte; code 1 if any differs."""
    workspace, settings = here()
    if not (workspace.root / "flows" / "rerun.py").is_file():
        raise FlawlineError(f"{workspace.root} has no flows/rerun.py", "run inside a flawline checkout")
    place = into.absolute() if into else None
    os.chdir(workspace.root)
    sys.path.insert(0, str(workspace.root))
    from flows.rerun import rerun as again

    found = again(workspace, settings, run, place, keep)
    for line in lines(found):
        typer.echo(line)
    if not found.same:
        raise typer.Exit(1)


def lines(found: "Rerun") -> list[str]:
    """What is said at the end."""
    run, stages = found.recorded.run_id, len(found.stages)
    told = [f"machine:   {sentence}" for sentence in found.machines]
    if found.same:
        other = [f"note:      {item}; what was made from it is the same" for item in found.differences]
        return [
            *told,
            *other,
            f"the same:  run {run}: {found.outputs} outputs of {stages} stages and the tables of results/, "
            "byte for byte",
        ]
    shown = [f"different: {item}" for item in found.differences[:_SHOWN]]
    if len(found.differences) > _SHOWN:
        shown.append(f"different: and {len(found.differences) - _SHOWN} more")
    first = {item.stage for item in found.differences if item.first}
    end = f"run {run} is not reproduced: {len(found.differences)} differences"
    if not found.computed:
        end += "; the stages would read other files than they did, so nothing was run"
    elif first:
        end += f"; same inputs, other bytes in: {', '.join(sorted(first))}"
    return [*shown, *told, end]
