"""`flawline history` and `flawline rollback`: which prompt set serves, and since which decision."""

from typing import Any

import typer

from flawline.cli.environment import here

PANEL = "Prompt sets"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(history)
    app.command(rich_help_panel=PANEL)(rollback)


def history() -> None:
    """Every decision, oldest first: who challenged whom, what was decided and why, who serves now."""
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


def rollback() -> None:
    """Swap champion and previous champion, and write that down in decisions/."""
    from flawline.track import registry

    back, taken = registry.rollback(*here())
    typer.echo(
        f"champion is version {back.version} ({back.method}, {back.train_set}, seed {back.seed}) again; "
        f"version {taken.version} was taken back"
    )


def _described(candidate: dict[str, Any] | None) -> str | None:
    """`3: human_free, castings, seed 0`, or None for none."""
    if candidate is None:
        return None
    return "{version}: {method}, {train_set}, seed {seed}".format_map(candidate)
