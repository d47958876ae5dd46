"""`flawline score`: scores and heat maps of images, with any prompt set."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flawline.settings import Settings
    from flawline.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Prompt sets")(score)


def score(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Images, or folders to search for images.")
    ],
    prompts: Annotated[
        str, typer.Option(metavar="REF", help="Alias or version in the registry, or a prompt-set folder.")
    ] = "champion",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for scores.csv and overlays (image beside heat map)."),
    ] = None,
    defects: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="Defect types to tell apart, e.g. 'scratch, loose thread', also untrained ones (dapo).",
        ),
    ] = None,
    more_defects: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS", help="Types to ask beside the known ones, e.g. 'burn mark': no training needed."
        ),
    ] = None,
    category: Annotated[
        str, typer.Option(metavar="NAME", help="Whose good images to compare with (few-shot methods).")
    ] = "",
    tiles: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=8, help="Also look at N x N overlapping tiles, for small defects."
        ),
    ] = 1,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Measure once which precision is fastest here; scores agree within 0.01."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False,
) -> None:
    """Score images; a bad image is named and left out, and the exit code is then 2."""
    from dataclasses import asdict

    from flawline.cli import scoring
    from flawline.detector import Detector
    from flawline.track import registry

    images, problems = scoring.find_images(paths)
    if not images:
        raise FlawlineError("; ".join(problems), "name images, or a folder with images")
    workspace, settings = here()
    detector = Detector.open(registry.resolve(workspace, settings, prompts, _warn), workspace.root)
    if fast:
        detector.speed_up(len(images) * (1 if tiles == 1 else 1 + tiles**2))
    asked = None if defects is None else _split(defects)
    more = _split(more_defects or "")
    if (asked is not None or more) and not detector.method.knows_types:
        option = "--defects" if asked is not None else "--more-defects"
        raise FlawlineError(
            f"{option}: {detector.method.name} knows no defect types", "use a dapo prompt set"
        )
    if asked is None and detector.method.knows_types:
        more = list(dict.fromkeys([*more, *_added(workspace, settings)]))
    limits = (settings.features.batch, settings.data.max_pixels)
    rows = list(scoring.score_images(detector, images, *limits, out, problems, asked, category, tiles, more))
    if out is not None and rows:
        scoring.write_csv(out / "scores.csv", rows)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(rows, out)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(2)


def _warn(told: str) -> None:
    print(f"warning: {told}", file=sys.stderr)


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _added(workspace: "Workspace", settings: "Settings") -> list[str]:
    """Words of types that `flawline defect add` brought: a champion from before can name them as well."""
    from flawline.data.vocabulary import added_types, load_vocabulary

    added = added_types(workspace.data, settings.data.all)
    vocabulary = load_vocabulary(workspace.vocabulary) if added else None
    return [vocabulary.defect_words(*one) for one in added] if vocabulary else []


def _show(rows: list, out: Path | None) -> None:
    from flawline.cli.tables import show_table
    from flawline.detector import WORDS_ONLY

    show_table(
        ("image", "score", "threshold", "anomalous", "defect"),
        ((row.image, row.score, row.threshold, row.is_anomalous, row.defect) for row in rows),
    )
    alone = sorted({word for row in rows for word, how in row.named_by.items() if how == WORDS_ONLY})
    if alone:
        typer.echo(f"named by their words alone, no training has seen them: {', '.join(alone)}")
    if out is not None and rows:
        typer.echo(f"written: {out / 'scores.csv'} and {len(rows)} overlays in {out / 'overlays'}")
