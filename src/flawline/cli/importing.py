"""`flawline import`: checkpoints that the authors of a method released, as prompt sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flawline.errors import FlawlineError
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.settings import BackboneSettings


def register(app: typer.Typer) -> None:
    app.command("import", rich_help_panel="Prompt sets")(import_)


def import_(
    method: Annotated[str, typer.Argument(help="anomalyclip, dapo, faprompt or promptad.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="The checkpoint; for promptad the CLS and SEG file of each product."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the prompt set. Default: out/imported/METHOD/<file's name>."
        ),
    ] = None,
    backbone: Annotated[str, typer.Option(metavar="NAME", help="Default: the authors' own.")] = "",
    weights: Annotated[
        str,
        typer.Option(metavar="W", help="A .safetensors file or an open_clip tag. Default: the authors' own."),
    ] = "",
    image_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=16, max=2048, help="Pixels a side. Default: the authors' own."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another option of the method, e.g. test_words=[crack]."
        ),
    ] = None,
    trained_on: Annotated[
        str,
        typer.Option(
            metavar="SET", help="Data set that trained the checkpoint; its images are then no test."
        ),
    ] = "",
) -> None:
    """Read a released checkpoint (weights only, nothing in it is run) into a prompt set."""
    from flawline.importers import run as importer

    workspace = Workspace.find()
    folder = out or workspace.out / "imported" / method / files[0].stem
    chosen = _backbone(method, backbone, weights, image_size)
    known = (trained_on or "unknown", _hashes(workspace, trained_on))
    importer.run(method, files, folder, workspace.root, chosen, _overrides(assignments or []), known)
    typer.echo(f"imported into {folder}; use it with: flawline score --prompts {folder} PATH")
    if not known[1]:
        typer.echo("no image of its training is known here, so testing on one of them will not be noticed")


def _backbone(method: str, name: str, weights: str, image_size: int | None) -> "BackboneSettings | None":
    """The authors' backbone with what was given instead; None where nothing was."""
    from flawline.importers.run import IMPORTERS
    from flawline.settings import BackboneSettings

    if method not in IMPORTERS or not (name or weights or image_size):
        return None
    own: BackboneSettings = IMPORTERS[method].BACKBONE
    return BackboneSettings(
        name=name or own.name,
        weights=weights or own.weights,
        image_size=image_size or (None if name else own.image_size),
    )


def _overrides(assignments: list[str]) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            found[key.strip()] = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            equals = ""
        if not equals or not key.strip():
            raise FlawlineError(
                f"--set {assignment} is not key=value", "write for example --set 'test_words=[crack, hole]'"
            )
    return found


def _hashes(workspace: Workspace, dataset: str) -> list[str]:
    """SHA-256 of every image of a data set below data/; none where it is not there."""
    from flawline.data.layouts import read_layout
    from flawline.files import inside, sha256_file

    if not dataset or not inside(workspace.data, dataset).is_dir():
        return []
    _, records = read_layout(workspace.data / dataset)
    return [sha256_file(record.image) for record in records]
