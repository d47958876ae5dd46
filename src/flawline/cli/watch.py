"""`flawline watch`: new kinds of defects among incoming images, and what a person says of them."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flawline.cli.defect import Category, Dataset, Masks, Retrain
from flawline.cli.environment import here
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flawline.settings import Settings
    from flawline.workspace import Workspace


class _SourceOrCommand(TyperGroup):
    """`flawline watch DIR` means `flawline watch look DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["look", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    cls=_SourceOrCommand,
    help="Watch incoming images for new kinds of defects: flawline watch DIR|s3://…  Observes only.",
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="watch", rich_help_panel="Data")


@commands.command("look")
def look(
    source: Annotated[
        str | None, typer.Argument(metavar="DIR|s3://…", help="Where images arrive. Default: watch.source.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    interval: Annotated[
        int | None, typer.Option(min=1, metavar="S", help="Seconds between looks. Default: watch.interval.")
    ] = None,
    prompts: Annotated[
        str, typer.Option(metavar="REF", help="Alias or version in the registry, or a prompt-set folder.")
    ] = "champion",
) -> None:
    """Score what came in, explain or cluster what is anomalous, compare good images with the labelled ones."""
    from flawline.watch.tell import source_of

    workspace, settings = here()
    given = source_of(settings, source)
    watching = _Watching(workspace, settings, prompts)
    watching.look(given)
    pause = interval or settings.watch.interval
    while not once:
        time.sleep(pause)
        try:
            watching.look(given)
        except FlawlineError as error:  # the bucket is down, a retraining is writing: the next look may do
            print(f"error: {error}; trying again in {pause} s", file=sys.stderr)


class _Watching:
    """The champion, opened anew only when it is another one."""

    def __init__(self, workspace: "Workspace", settings: "Settings", prompts: str) -> None:
        self.workspace, self.settings, self.prompts = workspace, settings, prompts
        self._sha256 = ""
        self._detector: Any = None

    def look(self, source: str) -> None:
        from flawline.detector import Detector
        from flawline.files import sha256_folder
        from flawline.track import registry
        from flawline.watch.incoming import open_source
        from flawline.watch.look import look as look_once
        from flawline.watch.tell import lines

        folder = registry.resolve(self.workspace, self.settings, self.prompts)
        sha256 = sha256_folder(folder)
        if sha256 != self._sha256:
            self._detector, self._sha256 = Detector.open(folder, self.workspace.root), sha256
        opened = open_source(self.workspace, source)
        found = look_once(self.workspace, self.settings, self._detector, sha256, opened, typer.echo)
        for line in lines(self.workspace, found):
            typer.echo(line)


@commands.command("accept")
def accept(
    number: Annotated[int, typer.Argument(metavar="ID", help="The review item.")],
    category: Category,
    name: Annotated[str | None, typer.Option(help="The type's folder name. Default: as suggested.")] = None,
    words: Annotated[str | None, typer.Option(help="What it is called. Default: as suggested.")] = None,
    dataset: Dataset = None,
    masks: Masks = None,
    retrain: Retrain = False,
) -> None:
    """It is a new defect type: its images become labelled ones, and the event is sent."""
    from flawline.cli.defect import announce, data_at_rest, tell
    from flawline.watch.accept import accept as accept_item

    workspace, settings = here()
    with data_at_rest(workspace):
        added = accept_item(workspace, settings, number, category, name, words, dataset, masks)
    tell(added)
    announce(workspace, settings, added, retrain)


@commands.command("reject")
def reject(number: Annotated[int, typer.Argument(metavar="ID", help="The review item.")]) -> None:
    """It is nothing new, or no defect: what looks like it is not asked again."""
    from flawline.watch.accept import turn_down

    workspace, _ = here()
    turn_down(workspace, number)
    typer.echo(f"review item {number} is rejected; what looks like it will not be asked again")


@commands.command("list")
def list_() -> None:
    """All review items, and what was looked at."""
    from flawline.cli.tables import show_table
    from flawline.watch.review import review_folder
    from flawline.watch.state import State

    workspace, _ = here()
    with State(workspace.state / "watch") as state:
        rows = [
            (
                item.number,
                item.status,
                item.name,
                item.words,
                len(state.crops(item=item.number)),
                item.place or None,
            )
            for item in state.items()
        ]
        counts = state.counts()
    show_table(("item", "state", "name", "words", "images", "where"), rows)
    typer.echo(
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "nothing was looked at yet"
    )
    typer.echo(str(review_folder(workspace) / "index.html"))
