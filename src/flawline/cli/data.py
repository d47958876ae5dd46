"""`flawline data`: take images in, list them, check them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flawline.cli.environment import here
from flawline.workspace import Workspace

commands = typer.Typer(help="Take images in, list them, check them.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="data", rich_help_panel="The line")


@commands.command()
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder, .zip or .tar archive, or s3://bucket/prefix; it is only read."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the data set: its folder below data/.")],
    layout: Annotated[
        str, typer.Option(help="auto, mvtec, folder, or a published data set (docs/data.md).")
    ] = "auto",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other content under this name.")
    ] = False,
) -> None:
    """Take a folder, an archive or a bucket into data/NAME and bring data.dvc up to date."""
    from flawline.data.ingest import add_dataset
    from flawline.data.versioning import track_data

    workspace = Workspace.find()
    from_bucket = source.startswith("s3://")
    result = add_dataset(workspace, source if from_bucket else Path(source), name, layout, replace)
    typer.echo(result["message"])
    # Also when nothing was added: an earlier run may have been killed between the two steps.
    if track_data(workspace):
        typer.echo(
            f"data.dvc names the new version; put {name} under data.train or data.test in params.yaml to use it"
        )


@commands.command("list")
def list_() -> None:
    """The data sets below data/: what stands there, and where it came from."""
    from flawline.cli.tables import show_table
    from flawline.data.ingest import list_datasets

    found = list_datasets(Workspace.find())
    rows = [
        (
            item["name"],
            item["images"],
            len(item["categories"]),
            _split_sum(item["counts"], "train"),
            _split_sum(item["counts"], "test"),
            item["problem"] or item["source"],
        )
        for item in found
    ]
    show_table(("data set", "images", "categories", "train", "test", "source or problem"), rows)
    if not found:
        typer.echo("nothing yet: run `dvc pull data.dvc`, or `flawline data add SRC --name NAME`")


@commands.command()
def check() -> None:
    """Check the data sets named in params.yaml, as the line does; code 2 if the line would stop."""
    from flawline.stages import checks, manifest

    workspace, settings = here()
    os.chdir(workspace.root)
    manifest.run(workspace, settings)
    checks.run(workspace, settings)
    _show_checks(workspace)


def _split_sum(counts: dict[str, dict[str, dict[str, int]]], split: str) -> int:
    return sum(sum(splits.get(split, {}).values()) for splits in counts.values())


def _show_checks(workspace: Workspace) -> None:
    from flawline.cli.tables import show_table
    from flawline.files import read_json

    summary: dict[str, Any] = read_json(workspace.checks / "summary.json")
    rows = []
    for dataset, categories in summary["counts"].items():
        for category, counts in categories.items():
            defects = {name: n for name, n in counts.items() if name not in ("good_train", "good_test")}
            told = ", ".join(f"{name} {n}" for name, n in defects.items())
            rows.append((dataset, category, counts.get("good_train", 0), counts.get("good_test", 0), told))
    show_table(("data set", "category", "good, train", "good, test", "defects, test"), rows)
    passed = sum(item["ok"] for item in summary["expectations"])
    typer.echo(f"{passed} of {len(summary['expectations'])} checks passed")
    typer.echo(f"all of it: {workspace.checks / 'summary.md'}")
