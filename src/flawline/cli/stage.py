"""`flawline stage NAME`: what dvc.yaml calls. Pure: reads files, writes files, asks nobody.

Options carry one cell of the matrix; everything else a stage needs stands in params.yaml.
"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.settings import Settings

Method = Annotated[str, typer.Option(help="Prompt method, a key of methods: in params.yaml.")]
Train = Annotated[str, typer.Option(help="Training set, a folder below data/.")]
Test = Annotated[str, typer.Option(help="Test set, a folder below data/.")]
Seed = Annotated[int, typer.Option(help="Seed of the tuning.", min=0)]
Variant = Annotated[
    str, typer.Option(help="METHOD@VARIANT of ablations: in params.yaml; else the main line.")
]

_HELP = "The stages that dvc.yaml calls: pure commands from files to files."
stages = typer.Typer(help=_HELP, no_args_is_help=True)


@stages.callback(help=_HELP)
def fixed_threads() -> None:
    """The number of threads is part of what makes a result: the same by hand as in the flow."""
    from flawline.determinism import fix_threads

    fix_threads(here()[1].run.threads)


def register(app: typer.Typer) -> None:
    app.add_typer(stages, name="stage", hidden=True)


def _enter(variant: str = "", method: str = "") -> tuple[Workspace, "Settings"]:
    """Stages work in the workspace's root, as under DVC, so that relative paths mean the same."""
    workspace, settings = here()
    os.chdir(workspace.root)
    if not variant:
        return workspace, settings
    from flawline.variants import VariantId, entered

    which = VariantId.parse(variant)
    if method and which.method != method:
        raise typer.BadParameter(f"is a variant of {which.method}, not of {method}", param_hint="--variant")
    return entered(workspace, settings, which)


@stages.command()
def manifest() -> None:
    """data/ → out/manifest.parquet: one table of all images in use."""
    from flawline.stages import manifest as stage

    stage.run(*_enter())


@stages.command()
def checks() -> None:
    """out/manifest.parquet → out/checks/: Great Expectations; a critical failure ends with code 2."""
    from flawline.stages import checks as stage

    stage.run(*_enter())


@stages.command()
def synthesize(train: Train, variant: Variant = "") -> None:
    """Good training images → out/synth/<train>/: synthetic anomalies with masks."""
    from flawline.stages import synthesize as stage

    stage.run(*_enter(variant), train)


@stages.command()
def features(
    part: Annotated[str, typer.Option(help="train (good and synthetic images) or test.")],
    dataset: Annotated[str, typer.Option("--set", help="Data set, a folder below data/.")],
    variant: Variant = "",
) -> None:
    """Images → out/features/<part>/<set>/: frozen CLIP features."""
    if part not in ("train", "test"):
        raise typer.BadParameter("must be train or test", param_hint="--part")
    from flawline.stages import features as stage

    stage.run(*_enter(variant), part, dataset)


@stages.command()
def tune(method: Method, train: Train, seed: Seed, variant: Variant = "") -> None:
    """Training features → out/prompts/… and out/tuning/…: one prompt set."""
    from flawline.stages import tune as stage
    from flawline.workspace import Cell

    stage.run(*_enter(variant, method), Cell(method, train, seed))


@stages.command()
def evaluate(method: Method, train: Train, seed: Seed, test: Test, variant: Variant = "") -> None:
    """One prompt set and one test set → out/evaluation/…: scores, metrics, curves, overlays."""
    from flawline.stages import evaluate as stage
    from flawline.workspace import Cell

    stage.run(*_enter(variant, method), Cell(method, train, seed), test)


@stages.command()
def compare() -> None:
    """out/evaluation/ → results/metrics.csv: one tidy table of all cells."""
    from flawline.stages import compare as stage

    stage.run(*_enter())


@stages.command()
def report() -> None:
    """Everything → reports/index.html."""
    from flawline.stages import report as stage

    stage.run(*_enter())
