"""`flawline ablate`: what the parts of a method are worth."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flawline.settings import Settings


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The line")(ablate)


def ablate(
    methods: Annotated[
        list[str] | None, typer.Argument(metavar="[METHOD]...", help="Without one, all variants are listed.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="SEED,...", help="Seeds of the tuning. Default: tune.seeds.")
    ] = "",
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run only this variant, or the variants of this part. Repeatable."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every method that has variants.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run every stage, also those that are up to date.")
    ] = False,
) -> None:
    """Run a method's variants (ablations: in params.yaml) beside the main line, and tabulate the differences.

    Starts from the features that the last retraining left. Writes results/ablations/METHOD.md and METHOD.csv
    and logs a run a variant and seed; no variant is ever promoted.
    """
    from flawline.cli.retrain import refuse_unknown_methods
    from flawline.prompts import validate_methods

    workspace, settings = here()
    chosen = (
        [name for name, variants in settings.ablations.items() if variants] if everything else methods or []
    )
    if not chosen:
        _list(settings)
        return
    numbers = _seeds(seeds)
    refuse_unknown_methods(settings)
    validate_methods(settings)
    if not (workspace.root / "flows" / "ablate.py").is_file():
        raise FlawlineError(f"{workspace.root} has no flows/ablate.py", "run inside a flawline checkout")
    os.chdir(workspace.root)
    sys.path.insert(0, str(workspace.root))
    from flows.ablate import main

    for done in main(workspace.root, chosen, numbers, part or [], force):
        ran = sum(outcome != "unchanged" for outcome in done.stages.values())
        typer.echo(done.table.read_text(encoding="utf-8"))
        typer.echo(f"stages: {ran} of {len(done.stages)} had to run")
        typer.echo(f"table:  {done.table} and {done.table.with_suffix('.csv').name}")
        typer.echo(f"MLflow: run {done.run_id}{'' if done.logged else ', logged before'}\n")


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        seeds = [-1]
    if min(seeds, default=0) < 0:
        raise FlawlineError(f"--seeds {text} is no list of seeds", "write for example --seeds 0,1,2")
    return list(dict.fromkeys(seeds))


def _list(settings: "Settings") -> None:
    from flawline.cli.tables import show_table
    from flawline.evaluate.ablation_text import change_text

    rows = [
        (method, name, one.part, change_text(one.change), one.why)
        for method, variants in settings.ablations.items()
        for name, one in variants.items()
    ]
    if not rows:
        typer.echo("no ablations in params.yaml: docs/params.md shows how to describe one")
        return
    show_table(("method", "variant", "part", "change", "why"), rows)
