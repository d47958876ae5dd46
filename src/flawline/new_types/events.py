"""New defect types as events: how one is named, and what was announced and answered of them.

An event's id is made of what it tells (data set, type, content of its files), so that the same folder is the same event
however often and by whomever it is seen. What became of it are two empty-or-small files below .state/events/, one of
them when it was announced and one when a retraining had it: nothing is ever rewritten, and no clock is asked.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_file, write_json
from flawline.workspace import Workspace

NEW_TYPE = "flawline.defect-type.new"
_ID = re.compile(r"[0-9a-f]{32}")
_ANNOUNCED, _ANSWERED = "announced", "answered"


def event_id(workspace: Workspace, dataset: str, defect: str, files: Iterable[Path]) -> str:
    """The id of the event that says: this data set has this new type, with these files (images and masks).

    Args:
        workspace: whose.
        dataset: folder below data/.
        defect: the type, as its folders are named.
        files: anywhere below data/, in any order.

    Returns:
        32 hex digits: equal for equal content at equal places, on any machine.

    Raises:
        OSError: a file is gone or cannot be read.
    """
    digest = hashlib.sha256(f"{NEW_TYPE}\0{dataset}\0{defect}\n".encode())
    for place, file in sorted((file.relative_to(workspace.data).as_posix(), file) for file in files):
        digest.update(f"{place}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()[:32]


def workspace_key(workspace: Workspace) -> str:
    """How a server that several workspaces use tells them apart: the folder's name and a hash of its place."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", workspace.root.name).strip("-.") or "workspace"
    return f"{name[:40]}-{hashlib.sha256(str(workspace.root).encode()).hexdigest()[:8]}"


def resource(workspace: Workspace) -> str:
    """The resource that the workspace's events are about; automations match it."""
    return f"flawline.workspace.{workspace_key(workspace)}"


def announced(workspace: Workspace) -> dict[str, dict[str, str]]:
    """{event id: {dataset, defect}} of every event that was announced, answered or not."""
    found = {}
    for file in sorted(_folder(workspace).glob(f"*.{_ANNOUNCED}.json")):
        told = read_json(file)
        found[file.name.split(".")[0]] = {"dataset": str(told["dataset"]), "defect": str(told["defect"])}
    return found


def unanswered(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Those of `announced` that no finished retraining had yet."""
    return {name: told for name, told in announced(workspace).items() if not is_answered(workspace, name)}


def is_answered(workspace: Workspace, event: str) -> bool:
    """Whether a finished retraining had this event's type in its data."""
    return _file(workspace, event, _ANSWERED).is_file()


def note_announced(workspace: Workspace, event: str, dataset: str, defect: str) -> None:
    """Keep that the event was handed to a server."""
    write_json(_file(workspace, event, _ANNOUNCED), {"dataset": dataset, "defect": defect})


def note_answered(workspace: Workspace, events: Collection[str], result: str) -> None:
    """Keep that a retraining with this result id had these events' types in its data."""
    for event in events:
        if not is_answered(workspace, event):
            write_json(_file(workspace, event, _ANSWERED), {"result": result})


def check_id(event: str) -> str:
    """The id, if it can be one; it names files.

    Raises:
        FlawlineError: it is none.
    """
    if not _ID.fullmatch(event):
        raise FlawlineError(
            f"'{event}' is no event id", "it has 32 hex digits, made by flawline.new_types.events.event_id"
        )
    return event


def _folder(workspace: Workspace) -> Path:
    return workspace.state / "events"


def _file(workspace: Workspace, event: str, kind: str) -> Path:
    return _folder(workspace) / f"{check_id(event)}.{kind}.json"
