"""The command line: parse, call, print. Each file holds the commands of one theme.

Nothing heavier than typer and rich is imported before a command runs (tests/test_cli.py holds that).
"""


def main() -> None:
    """Entry point of the console script: runs the command line and exits with its code."""
    import sys

    from flawline.line.warm import ask

    code = ask(sys.argv[1:])
    if code is None:
        from flawline.cli.app import run

        code = run(sys.argv[1:])
    sys.exit(code)
