"""`flawline pretrain` and `flawline samples`: how the embedded backbone and the sample data were made."""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Makers"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(pretrain)
    app.command(rich_help_panel=PANEL)(samples)


def pretrain(
    out: Annotated[Path, typer.Option(help="Weight file to write (safetensors).")] = Path(
        "backbones/flawline-tiny.safetensors"
    ),
    cache: Annotated[
        Path, typer.Option(help="Folder for renders and checkpoints; an interrupted run resumes.")
    ] = Path(".state/pretrain"),
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 1800,
    renders: Annotated[int, typer.Option(help="Scenes to render, each good and flawed.", min=1)] = 24_000,
    seed: Annotated[int, typer.Option(help="Seed of renders, weights and order.", min=0)] = 0,
) -> None:
    """Train the embedded tiny CLIP on rendered image-caption pairs (hours; not part of a retraining)."""
    from flawline.clip import pretrain as maker

    maker.run(out, cache, maker.Recipe(steps=steps, renders=renders, seed=seed))


def samples(
    out: Annotated[Path, typer.Option(help="Folder that gets one folder a data set.")] = Path(
        ".state/samples"
    ),
    seed: Annotated[int, typer.Option(help="Seed of every picture.", min=0)] = 0,
) -> None:
    """Render the sample data sets."""
    from flawline.render import samples as maker

    maker.run(out=out, seed=seed)
    typer.echo(f"rendered below {out}; take them in with: flawline data add {out}/NAME --name NAME")
