""".flawline/: what can be made again at any time and belongs to no version; deleting it costs time, nothing else."""

from pathlib import Path

NAME = ".flawline"


def scratch(root: Path) -> Path:
    """`root`/.flawline, made if need be, with a .gitignore of its own so that no repository has to know it."""
    folder = root / NAME
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder
