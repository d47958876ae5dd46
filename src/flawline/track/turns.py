"""Taking turns at a shared registry: MLflow moves an alias without comparing, so promotions must not overlap.

A workspace's own lock file does not reach another machine. A registry does: it numbers the versions of a model one
after the other, whoever asks. So a process that wants to promote takes a version of a model of its own as a ticket,
and waits until no smaller ticket is there. Tickets are deleted after use and their numbers never come back. The ticket
of a process that died is deleted by whoever waits behind it; deleting it twice is harmless.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.line.recover import began
from flawline.track.store import Store

_HOLDER = "flawline.holder"
#: a ticket of another machine, whose processes cannot be looked at, counts as left behind when it is so much older
_FORGOTTEN_MS = 30 * 60 * 1000
_LOOK_SECONDS = 0.2
#: a version must name a place; a server refuses its own artifacts and local folders here. Nothing is ever there.
_SOURCE = "s3://turns/none"


@contextmanager
def turn(store: Store, model: str, wait_seconds: float) -> Iterator[None]:
    """Hold the registry's only turn.

    Args:
        store: an open store.
        model: the model whose aliases are to be moved; tickets are versions of `<model>.turns`.
        wait_seconds: how long others may take.

    Raises:
        FlawlineError: another process holds its turn for longer, or the registry cannot be used.
    """
    from mlflow.exceptions import MlflowException

    name = f"{model}.turns"
    try:
        ticket = _take(store.client, name)
    except MlflowException as error:
        raise FlawlineError(
            f"the registry {store.uri} cannot be used: {' '.join(str(error).split())[:200]}",
            "see that its server runs and that you may write",
        ) from error
    try:
        _wait(store.client, name, ticket, wait_seconds)
        yield
    finally:
        # If the server is gone, others see that this process is, too.
        with suppress(MlflowException):
            store.client.delete_model_version(name, str(ticket.version))


def _take(client: Any, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        with suppress(MlflowException):  # another process made it meanwhile
            client.create_registered_model(
                name, description="Whose turn it is to promote. Kept by flawline; holds no models."
            )
    last: MlflowException | None = None
    for _ in range(5):  # of processes that ask at the same moment a database lets only some through
        try:
            return client.create_model_version(name, _SOURCE, tags={_HOLDER: _myself()})
        except MlflowException as error:
            last = error
            time.sleep(_LOOK_SECONDS)
    assert last is not None
    raise last


def _wait(client: Any, name: str, ticket: Any, wait_seconds: float) -> None:
    end = time.monotonic() + wait_seconds
    while before := _before(client, name, ticket):
        holder = before[0].tags.get(_HOLDER, "unknown")
        if time.monotonic() > end:
            raise FlawlineError(
                f"another promotion holds its turn at the registry: {holder}",
                f"wait for it to end; if it is no more, delete version {before[0].version} of model {name}",
            )
        time.sleep(_LOOK_SECONDS)


def _before(client: Any, name: str, ticket: Any) -> list[Any]:
    """Living tickets with a smaller number, smallest first; dead ones are deleted on the way."""
    from mlflow.exceptions import MlflowException

    mine, living = int(ticket.version), []
    for other in client.search_model_versions(f"name = '{name}'", max_results=10_000):
        if int(other.version) >= mine:
            continue
        if _left_behind(other, ticket):
            with suppress(MlflowException):
                client.delete_model_version(name, str(other.version))
        else:
            living.append(other)
    return sorted(living, key=lambda other: int(other.version))


def _left_behind(other: Any, ticket: Any) -> bool:
    """Is the process behind a ticket gone? Times are the registry's own, so no clock of a client counts."""
    place, _, rest = other.tags.get(_HOLDER, "").rpartition(" process ")
    if place == _machine() and rest:
        number, _, started = rest.partition(" of ")
        return not number.isdigit() or _started(int(number)) != started
    return int(ticket.creation_timestamp) - int(other.creation_timestamp) > _FORGOTTEN_MS


def _myself() -> str:
    return f"{_machine()} process {os.getpid()} of {_started(os.getpid())}"


def _started(process: int) -> str | None:
    """When a process began, which no change of the clock moves; None where there is none."""
    import psutil

    try:
        return f"{began(process):.2f}"
    except psutil.NoSuchProcess:
        return None


def _machine() -> str:
    """This machine, or container: two of them may both have a process 1."""
    try:
        inside = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        inside = ""
    return f"{platform.node()} {inside}".strip()
