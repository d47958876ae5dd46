"""The `flawline` command: its sub-commands, its global options, and what an error looks like."""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flawline.cli import (
    ablate,
    data,
    defect,
    deploy,
    diagnose,
    importing,
    makers,
    methods,
    registry,
    rerun,
    retrain,
    score,
    services,
    stage,
    watch,
)
from flawline.cli.environment import choose_workspace, prepare_environment
from flawline.errors import FlawlineError

TRACEBACK = "FLAWLINE_TRACEBACK"
_INTERRUPTED = 130

app = typer.Typer(
    name="flawline",
    help="Tune, prove and ship prompts that find visual defects.",
    epilog="The stages that dvc.yaml calls are listed by: flawline stage --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (
    retrain,
    rerun,
    ablate,
    data,
    defect,
    watch,
    score,
    importing,
    registry,
    services,
    deploy,
    diagnose,
    methods,
    makers,
    stage,
):
    part.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from flawline import __version__

        typer.echo(f"flawline {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    workspace: Annotated[
        Path | None,
        typer.Option(help="Folder with params.yaml. Default: FLAWLINE_WORKSPACE, else here or above."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if workspace is not None:
        choose_workspace(workspace)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code.

    0 fine · 1 a bug, or a broken environment that doctor found · 2 bad input, told in one line on standard
    error · 130 interrupted. With FLAWLINE_TRACEBACK set, unexpected errors keep their traceback.
    """
    prepare_environment()
    try:
        code = app(args=arguments, prog_name="flawline", standalone_mode=False)
        if code == _INTERRUPTED:  # typer turns KeyboardInterrupt into this
            return _complain("interrupted", _INTERRUPTED)
        return code if isinstance(code, int) else 0
    except FlawlineError as error:
        return _complain(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", _INTERRUPTED)
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return _usage(error, usage())
    if os.environ.get(TRACEBACK):
        raise error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" while writing {error.filename}" if error.filename else ""
        return _complain(f"the disk is full{where} — free some space, then run the same command again", 2)
    return _complain(f"{type(error).__name__}: {error} — run again with {TRACEBACK}=1 to see where", 1)


def _usage(error: Exception, message: str) -> int:
    """A mistyped command line, on one line; typer's own classes are private, so they are told by shape."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
        return 2
    command = getattr(context, "command_path", "flawline")
    return _complain(f"{message.rstrip('.')} — `{command} --help` shows what there is", 2)


def _complain(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
