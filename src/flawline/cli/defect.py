"""`flawline defect add`: a new defect type with its images, words and event."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flawline.cli.environment import here
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flawline.settings import Settings
    from flawline.watch.intake import Added
    from flawline.workspace import Workspace

# What `defect add` and `watch accept` both ask.
Category = Annotated[str, typer.Option(help="The product that has the defect.")]
Dataset = Annotated[
    str | None, typer.Option(help="Its data set. Default: the only one that has the category.")
]
Masks = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Masks by image name; without, no pixel metrics.")
]
Retrain = Annotated[bool, typer.Option("--retrain", help="Retrain here at once.")]

commands = typer.Typer(help="New defect types.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="defect", rich_help_panel="Data")


@commands.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The type, as its folder shall be called: burn_mark.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES…", help="Images, folders, s3:// prefixes.")],
    category: Category,
    words: Annotated[
        str | None, typer.Option(help='What it is called: "burn mark". Default: as vocabulary.yaml has it.')
    ] = None,
    dataset: Dataset = None,
    masks: Masks = None,
    retrain: Retrain = False,
) -> None:
    """Take in labelled images of a defect type, whole or not at all, and tell the server of it."""
    from flawline.watch.intake import add_defect

    workspace, settings = here()
    with data_at_rest(workspace):
        added = add_defect(workspace, settings, name, images, category, words, dataset, masks)
    tell(added)
    announce(workspace, settings, added, retrain)


def data_at_rest(workspace: "Workspace") -> "AbstractContextManager[list[str]]":
    """No retraining may read data/ meanwhile: its stages would see two versions of it."""
    from flawline.line.recover import session

    return session(workspace)


def tell(added: "Added") -> None:
    """What was taken in, for people."""
    place = added.place
    if added.undone:
        typer.echo("took back what an earlier, killed command had left")
    where = f"data/{place.dataset}/{place.category}/test/{place.defect}"
    there = f"; {added.there} stood there already" if added.there else ""
    if added.images:
        typer.echo(f"added {added.images} images to {where}, in words “{added.words}”{there}")
    else:
        typer.echo(f"{where} already holds exactly these {added.there} images: nothing to do")


def announce(workspace: "Workspace", settings: "Settings", added: "Added", retrain: bool) -> None:
    """Send the event, or say what to do; with `retrain`, do it here."""
    place = added.place
    if place.dataset not in settings.data.all:
        typer.echo(
            f"{place.dataset} is in neither data.train nor data.test of params.yaml: no retraining needs it"
        )
        return
    if retrain:
        _retrain(workspace)
        return
    emitted = added.new_type and _emit(workspace, settings, added)
    if emitted:
        typer.echo("told the server: retraining starts there")
    else:
        typer.echo("next: flawline retrain")
    typer.echo(_until_then(workspace, settings, added.words))


def _until_then(workspace: "Workspace", settings: "Settings", words: str) -> str:
    """What the present champion makes of the type before the retraining has ended."""
    from flawline.prompts import method_class
    from flawline.track import registry

    try:
        champion = registry.by_alias(workspace, settings, registry.CHAMPION)
    except FlawlineError:  # the registry is away: nothing of what was done depends on it
        return "the registry cannot be asked which champion serves"
    if champion is None:
        return "no champion serves yet"
    who = f"the champion (version {champion.version}, {champion.method})"
    if not method_class(champion.method).knows_types:
        return f"until then {who} finds defects and names none: it is no method that names types"
    return f"until then {who} names “{words}” by its words alone: flawline score IMAGES"


def _emit(workspace: "Workspace", settings: "Settings", added: "Added") -> bool:
    from flawline.new_types.events import event_id
    from flawline.new_types.look import look

    module = workspace.root / "flows" / "events.py"
    if not module.is_file():
        return False
    sys.path.insert(0, str(workspace.root))
    from flows.events import emit_new_type

    place = added.place
    # The data watch would tell of all categories that have the type anew: the same event has the same id.
    same = [
        one for one in look(workspace, settings) if (one.dataset, one.defect) == (place.dataset, place.defect)
    ]
    if not same and workspace.manifest.is_file():
        return False  # a finished retraining knows the type: these are more images of it
    files = same[0].files if same else tuple(added.files)
    count = same[0].images if same else sum("/ground_truth/" not in file.as_posix() for file in files)
    event = event_id(workspace, place.dataset, place.defect, files)
    return emit_new_type(workspace, place.dataset, place.defect, count, event)


def _retrain(workspace: "Workspace") -> None:
    if not (workspace.root / "flows" / "retrain.py").is_file():
        raise FlawlineError(f"{workspace.root} has no flows/retrain.py", "run inside a flawline checkout")
    os.chdir(workspace.root)
    sys.path.insert(0, str(workspace.root))
    from flows.retrain import main

    main(workspace.root)
