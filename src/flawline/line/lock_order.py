"""dvc.lock in the order of the pipeline, whichever of the stages that ran side by side ended first.

DVC appends a stage where it ends. So one result would lie in files that differ, and the history of a committed
dvc.lock would be full of moved blocks.
"""

import re
from collections.abc import Sequence

from flawline.files import write_text
from flawline.workspace import Workspace

_ENTRY = re.compile(r"^  (?=[^\s#])", re.MULTILINE)  # a key of `stages:`; what belongs to it stands deeper
_SECTION = re.compile(r"^stages:\n((?:(?: .*)?\n)*)", re.MULTILINE)


def arrange(workspace: Workspace, names: Sequence[str]) -> bool:
    """Put the stages of dvc.lock in this order, and behind them those that the pipeline no longer has, by name.

    Args:
        workspace: whose dvc.lock it is.
        names: the pipeline's stages, in their order.

    Returns:
        Whether the file had to change.
    """
    from dvc.repo import Repo

    from flawline.line.pipeline import quiet

    if not workspace.lock.is_file():
        return False
    if (text := workspace.lock.read_text(encoding="utf-8")) == arranged(text, names):
        return False
    with quiet(), Repo(str(workspace.root), _wait_for_lock=True) as repo, repo.lock:
        text = workspace.lock.read_text(encoding="utf-8")
        write_text(workspace.lock, arranged(text, names))
    return True


def arranged(text: str, names: Sequence[str]) -> str:
    """A dvc.lock's text with the entries of `stages` in the order of `names`; the entries stay as they are."""
    found = _SECTION.search(text)
    if not found:
        return text
    head, *entries = _ENTRY.split(found[1])
    place = {name: position for position, name in enumerate(names)}
    by_name = {_key(entry): f"  {entry}" for entry in entries}
    if len(by_name) < len(entries) or head.strip():
        return text
    order = sorted(by_name, key=lambda name: (place.get(name, len(place)), name))
    return text[: found.start(1)] + head + "".join(by_name[name] for name in order) + text[found.end(1) :]


def _key(entry: str) -> str:
    """`tune@a-0` of `tune@a-0:`; YAML quotes a key that would not be read as a string."""
    line = entry.splitlines()[0].rstrip().removesuffix(":")
    return line[1:-1] if line[:1] in "'\"" and line[:1] == line[-1:] else line
