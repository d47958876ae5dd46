"""`flawline doctor`: is the environment sound, and if not, what mends it."""

import typer


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Help")(doctor)


def doctor() -> None:
    """Check the environment and say how to mend it; exit code 1 if something is broken."""
    from flawline.cli.tables import show_table
    from flawline.doctor import examine

    findings = list(examine())
    show_table(("", "what", "found"), ((item.mark, item.what, item.found) for item in findings))
    for item in findings:
        if item.remedy:
            typer.echo(f"{item.mark} {item.what}: {item.remedy}")
    if any(item.broken for item in findings):
        raise typer.Exit(1)
    typer.echo("everything works")
