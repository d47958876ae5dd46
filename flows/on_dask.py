"""Stages on a Dask cluster: the workers see the workspace at the same path, and say to Prefect what they do."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.line import capture
from flawline.workspace import Workspace
from flows.runners import Runner

_LOCAL = "local:"
_NO_WORKER_SECONDS = 60


@contextmanager
def dask_runner(workspace: Workspace, where: str, threads: int) -> Iterator[Runner]:
    """A task runner on `local:N` worker processes, or on the cluster behind a scheduler's address.

    Raises:
        FlawlineError: prefect-dask is not installed, the scheduler does not answer, it has no worker, or a worker
            does not see the workspace.
    """
    try:
        from distributed import LocalCluster
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise FlawlineError(
            f"run.dask is {where}, but {error.name} is not installed",
            "pip install -c constraints.txt -e '.[dask]', or set run.dask to null",
        ) from error
    with ExitStack() as stack:
        if where.startswith(_LOCAL):
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=int(where.removeprefix(_LOCAL)),
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,  # a stage's memory is its own process'; Dask sees only the worker's
                    local_directory=str(workspace.state / "dask"),
                    silence_logs=logging.CRITICAL,
                )
            )
            where = cluster.scheduler_address
        stack.enter_context(_prefect_for_all(where))
        tasks = DaskTaskRunner(address=where)
        try:
            stack.enter_context(tasks)
            client = tasks.client
        except OSError as error:
            raise FlawlineError(
                f"run.dask: the Dask scheduler {where} cannot be reached",
                "start it (dask scheduler), or set run.dask to null",
            ) from error
        _refuse_strangers(client, workspace, where)
        client.run(capture.start_over)
        # A thread of a worker is a place for a stage; a worker may join or leave at any time.
        yield Runner(
            tasks, lambda: sum(client.nthreads().values()), threads, lambda: client.run(capture.stop_all)
        )


@contextmanager
def _prefect_for_all(where: str) -> Iterator[None]:
    """The Prefect API by its address: a worker would otherwise start one of its own."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    if not any(here in where for here in ("//127.", "//localhost", "//[::1]")):
        raise FlawlineError(
            f"run.dask: the workers of {where} need the address of a Prefect server to say what they do",
            "start one that they reach (flawline ui, or prefect server start) and set PREFECT_API_URL",
        )
    server = SubprocessASGIServer()
    server.start()  # does nothing where this process runs it already
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield


def _refuse_strangers(client: Any, workspace: Workspace, where: str) -> None:
    from distributed import TimeoutError as Late

    try:
        client.wait_for_workers(1, timeout=_NO_WORKER_SECONDS)
    except Late as error:
        raise FlawlineError(
            f"run.dask: the cluster {where} has no worker", "start some: dask worker --nthreads 1 ADDRESS"
        ) from error
    try:
        seen = client.run(sees, str(workspace.root))
    except ImportError as error:
        raise FlawlineError(
            f"run.dask: a worker of {where} cannot import {error.name}",
            "start the workers in the checkout, in its environment: PYTHONPATH=. dask worker …",
        ) from error
    blind = sorted(worker for worker, found in seen.items() if not found)
    if blind:
        raise FlawlineError(
            f"run.dask: the worker {blind[0]} does not see the workspace {workspace.root}",
            "share the folder with all workers at the same path",
        )


def sees(root: str) -> bool:
    """Run on a worker: does the workspace lie there?"""
    return Workspace(Path(root)).params.is_file()
