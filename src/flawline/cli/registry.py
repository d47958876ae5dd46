"""`flawline history` and `flawline rollback`: which prompt set serves, and since which decision."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flawline.cli.environment import here

if TYPE_CHECKING:
    from flawline.workspace import Workspace

PANEL = "Prompt sets"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(history)
    app.command(rich_help_panel=PANEL)(rollback)


def history(
    number: Annotated[
        int | None, typer.Argument(help="A decision: show all its tests. Default: list every decision.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Take that decision again from its files; exit code 1 if it differs."),
    ] = False,
) -> None:
    """Every decision, oldest first: who challenged whom, what was decided and why, who serves now."""
    from flawline.errors import FlawlineError

    if number is not None:
        _show_one(number, check)
    elif check:
        raise FlawlineError("--check needs the number of a decision", "flawline history 3 --check")
    else:
        _show_all()


def rollback(
    to: Annotated[
        str | None, typer.Option(help="A version that was champion once. Default: the previous champion.")
    ] = None,
) -> None:
    """Make an earlier champion champion again, and write that down in decisions/."""
    from flawline.track import registry

    back, taken = registry.rollback(*here(), to)
    typer.echo(
        f"champion is version {back.version} ({back.method}, {back.train_set}, seed {back.seed}) again; "
        f"version {taken.version} was taken back"
    )


def _show_all() -> None:
    from flawline.cli.tables import show_table
    from flawline.track import registry

    events = registry.history(*here())
    if not events:
        typer.echo("no decision yet: run flawline retrain")
        return
    rows = [
        (
            f"{event.number:04d}",
            event.verdict,
            _described(event.challenger),
            _described(event.champion),
            ", ".join(event.aliases) or None,
            event.reason,
        )
        for event in events
    ]
    show_table(("decision", "verdict", "challenger", "champion then", "is now", "reason"), rows)


def _show_one(number: int, check: bool) -> None:
    from flawline.cli.tables import show_table
    from flawline.gate import decisions
    from flawline.gate.words import claim_words, filled, found_words

    workspace, _ = here()
    record = decisions.by_number(workspace, number)
    typer.echo(f"decision   {number:04d}: {record['verdict']}")
    typer.echo(f"challenger {_described(record.get('challenger')) or 'none'}")
    typer.echo(
        f"champion   {_described(record.get('champion')) or 'none'} (measured against: {record.get('against')})"
    )
    typer.echo(f"reason     {record.get('reason', '')}")
    for test, defect in record.get("new_types") or []:
        typer.echo(f"new type   {defect} in {test}")
    tests = [filled(test, record.get("margin")) for test in record.get("tests", [])]
    if tests:
        rows = [(claim_words(test), found_words(test), _images(test), bool(test["passed"])) for test in tests]
        show_table(("claim", "challenger against the other", "good + defective", "holds"), rows)
    if check:
        _check(workspace, record)


def _check(workspace: "Workspace", record: dict[str, Any]) -> None:
    from flawline.gate.check import again, differences

    told = differences(record, again(record, workspace.root))
    name = record["file"]
    if told:
        typer.echo(f"{name} differs from what its files say now:")
        for line in told:
            typer.echo(f"  {line}")
        raise typer.Exit(1)
    typer.echo(
        f"{name} was taken again from its files: the same verdict, and {len(record['tests'])} equal tests"
    )


def _images(test: dict[str, Any]) -> str | None:
    good, bad = test["n_normal"], test["n_anomalous"]
    return f"{good} + {bad}" if good or bad else None


def _described(candidate: dict[str, Any] | None) -> str | None:
    """`3: human_free, castings, seed 0`, or None for none."""
    if candidate is None:
        return None
    return "{version}: {method}, {train_set}, seed {seed}".format_map(candidate)
