"""Environment of the embedded services: quiet, offline, inside the workspace; set before their import."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flawline.files import write_json
from flawline.workspace import Workspace

# `true`, not `1`: MLflow accepts only that spelling.
QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # By itself it tries for four minutes at every single request; the tasks that log try again as a whole.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Making its database takes 14 s on an idle small machine; the default of 20 s is too little on a busy one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # The flow prints its own lines, and a refused input is one line, not Prefect's traceback of it. Prefect's
    # own log (the UI, the database) keeps everything.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
}


def prepare(workspace: Workspace) -> None:
    """Set what is not set yet in this process, for itself and its children.

    Must run before the first import of prefect, which reads its settings once. Where PREFECT_API_URL names a
    server, that server is used and PREFECT_HOME stays the user's; so is the server of a `flawline ui` that runs
    in this workspace now. Otherwise Prefect's own database lies below .state/.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "PREFECT_API_URL" not in os.environ and (address := running_server(workspace)):
        os.environ["PREFECT_API_URL"] = address
    if "PREFECT_API_URL" not in os.environ:
        os.environ.setdefault("PREFECT_HOME", str(prefect_home(workspace)))
        prefect_home(workspace).mkdir(parents=True, exist_ok=True)


def running_server(workspace: Workspace) -> str | None:
    """The Prefect API of a `flawline ui` that runs in this workspace on this machine, or None."""
    try:
        told = json.loads(_note(workspace).read_text(encoding="utf-8"))
        address, pid, start = str(told["prefect"]), int(told["pid"]), float(told["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    from flawline.line.recover import alive

    return address if alive(pid, start) else None


@contextmanager
def named_server(workspace: Workspace, address: str) -> Iterator[None]:
    """Let commands in this workspace find this process' Prefect API inside; it dies with the process."""
    from flawline.line.recover import began

    note = _note(workspace)
    write_json(note, {"prefect": address, "pid": os.getpid(), "began": began(os.getpid())})
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _note(workspace: Workspace) -> Path:
    return workspace.state / "ui.json"


def prefect_home(workspace: Workspace) -> Path:
    """Folder of the embedded Prefect database and profiles."""
    return workspace.state / "prefect"
