"""The look at data/: a new folder test/<type> that has come to rest becomes an event, once."""

import time
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from flawline.new_types import events
from flawline.new_types.look import NewType, look
from flawline.settings import load_settings
from flawline.workspace import Workspace
from flows.dead_runs import living_run
from flows.events import emit_new_type


@flow(name="look at data")
def look_at_data(root: str) -> State[list[str]]:
    """Announce new defect types of the data sets in params.yaml; they start a retraining.

    Args:
        root: the workspace.
    """
    from filelock import FileLock, Timeout

    workspace = Workspace(Path(root))
    workspace.state.mkdir(parents=True, exist_ok=True)
    with living_run(workspace):
        try:
            with FileLock(workspace.state / "look.lock", timeout=0):
                told = announce(workspace)
        except Timeout:
            return Completed(message="another look is not over yet", data=[])
    for line in told:
        get_run_logger().info(line)
    return Completed(message="; ".join(told) or "nothing new", data=told)


def announce(workspace: Workspace) -> list[str]:
    """Look, wait, look again: what was the same both times is announced, unless it was before.

    Only the time that passes in between is measured, by a clock that cannot be set. Nothing is remembered between
    two calls but what was announced, so that a restart at any point does no harm.

    Returns:
        A line for every type that is new now.
    """
    settings = load_settings(workspace.params)
    before = {(new.dataset, new.defect): new for new in look(workspace, settings)}
    if not before:
        return []
    time.sleep(settings.schedule.settle_seconds)
    return [_told(workspace, before.get((new.dataset, new.defect)), new) for new in look(workspace, settings)]


def _told(workspace: Workspace, before: NewType | None, now: NewType) -> str:
    if before is None or before.stamps != now.stamps:
        return f"{now.title}: still changing"
    try:
        event = events.event_id(workspace, now.dataset, now.defect, now.files)
    except OSError as error:
        return f"{now.title}: still changing ({error.strerror})"
    if event in events.announced(workspace):
        return f"{now.title}: announced before"
    if emit_new_type(workspace, now.dataset, now.defect, now.images, event):
        return f"{now.title}: announced"
    return f"{now.title}: could not be announced"
