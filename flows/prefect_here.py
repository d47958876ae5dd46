"""Prefect as one command needs it: the server of PREFECT_API_URL, else an API of this process' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flawline.errors import FlawlineError
from flawline.track.environment import prefect_home, prepare
from flawline.workspace import Workspace


@contextmanager
def prefect_here(workspace: Workspace) -> Iterator[None]:
    """Run flows of a workspace inside.

    Raises:
        FlawlineError: the Prefect server cannot be reached.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )

    prepare(workspace)
    # The heartbeat thread sleeps in steps of a second, which every flow would wait for at its end.
    updates: dict[Any, Any] = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    if not PREFECT_API_URL.value():
        updates |= {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True, PREFECT_HOME: prefect_home(workspace)}
    with temporary_settings(updates):
        try:
            yield
        except RuntimeError as error:
            if "Failed to reach API" in str(error):
                raise FlawlineError(
                    f"the Prefect server {PREFECT_API_URL.value()} cannot be reached",
                    "start it (make ui), or unset PREFECT_API_URL to run without one",
                ) from error
            raise
