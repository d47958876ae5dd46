"""`flawline methods`: which prompt methods there are, and what their options mean."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Help")(methods)


def methods(
    name: Annotated[str, typer.Argument(help="A method; without one, all are listed.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/options.md.")] = False,
) -> None:
    """List the prompt methods, or the options of one with their defaults and meaning."""
    from flawline.cli.tables import show_table
    from flawline.prompts import method_class, method_names
    from flawline.prompts.shared.option_docs import markdown as page
    from flawline.prompts.shared.option_docs import options_of

    if markdown:
        typer.echo(page(), nl=False)
    elif name:
        rows = [
            (o.key, o.default, o.allowed.replace("`", ""), o.meaning.replace("`", ""))
            for o in options_of(name)
        ]
        show_table(
            ("option", "default", "allowed", "meaning"), rows, f"{name}: {method_class(name).fidelity}"
        )
    else:
        found = [(method, method_class(method)) for method in method_names()]
        rows = [(m, c.fidelity, "; ".join(_traits(c)), (c.summary())) for m, c in found]
        show_table(("method", "fidelity", "", "what it is"), rows)


def _traits(method: type) -> list[str]:
    """What sets a method apart in use."""
    traits = [("runs the image tower", "reads_pixels"), ("names defect types", "knows_types")]
    return [words for words, attribute in traits if getattr(method, attribute)]
