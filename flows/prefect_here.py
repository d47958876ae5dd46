"""Prefect as one command needs it: the server of PREFECT_API_URL, else an API of this process' own.

That API is a process that takes ten seconds to start, twelve where it has to make its database. Whatever else has to be
done before the first task can be done in that time.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flawline.errors import FlawlineError
from flawline.track.environment import prefect_home, prepare
from flawline.workspace import Workspace


@contextmanager
def prefect_here(workspace: Workspace, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run flows of a workspace inside.

    Args:
        workspace: where.
        meanwhile: done while the API starts; what it raises is raised before any flow begins.

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
            with _waking():
                meanwhile()
            yield
        except RuntimeError as error:
            if "Failed to reach API" in str(error):
                raise FlawlineError(
                    f"the Prefect server {PREFECT_API_URL.value()} cannot be reached",
                    "start it (make ui), or unset PREFECT_API_URL to run without one",
                ) from error
            raise


@contextmanager
def _waking() -> Iterator[None]:
    """Start Prefect's API beside what is done inside, and wait for it at the end; not where that raises."""
    from prefect.client.orchestration import get_client

    def wake() -> None:
        # A server that cannot be reached is told by the flow, with its address.
        with suppress(Exception), get_client(sync_client=True) as client:
            client.api_healthcheck()

    # Prefect's settings are of the context, and a thread has one of its own.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(wake,), daemon=True)
    thread.start()
    yield
    thread.join()
