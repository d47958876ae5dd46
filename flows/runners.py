"""Where stages run: on threads that wait for their commands, or on the workers of a Dask cluster."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flawline.determinism import THREADS, stage_threads
from flawline.line import capture, dvc_process
from flawline.settings import BackboneSettings, Settings
from flawline.workspace import Workspace

_GIB = 2**30
_STAGE_BYTES = (
    1.5 * _GIB
)  # libraries, images and features of a stage on the embedded backbone: 0.7 GiB measured
_WEIGHTS_TIMES = 4  # weights, the copy they are read from, and what tuning keeps of every layer
_UNKNOWN_WEIGHTS = 1 * _GIB  # of a backbone that is no file: an open_clip name
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Runner:
    """Takes the tasks of stages.

    Attributes:
        tasks: Prefect's task runner, started.
        slots: how many stages may run now.
        threads: of each stage.
        stop: ends all that runs, wherever.
    """

    tasks: TaskRunner[Any]
    slots: Callable[[], int]
    threads: int
    stop: Callable[[], None]


@contextmanager
def stage_runner(workspace: Workspace, settings: Settings) -> Iterator[Runner]:
    """Start what `run:` of params.yaml asks for; enter it inside a flow. Dask is imported only where it is wanted.

    Raises:
        FlawlineError: there is no such cluster, or the extra `dask` is not installed.
    """
    threads = stage_threads(settings.run.threads)
    # The gate may evaluate in this process, and must find what the stages find.
    with environment({THREADS: str(threads)}):
        if settings.run.dask:
            from flows.on_dask import dask_runner

            with dask_runner(workspace, settings.run.dask, threads) as runner:
                yield runner
            return
        workers = settings.run.workers
        count = auto_workers(workspace, settings.backbone, threads) if workers == "auto" else workers
        capture.start_over()
        pool: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=count)
        try:
            with pool as tasks:
                yield Runner(tasks, lambda: count, threads, capture.stop_all)
        finally:
            dvc_process.close()


def auto_workers(workspace: Workspace, backbone: BackboneSettings, threads: int) -> int:
    """Stages at once: as many as the usable cores hold with `threads` each, and the free memory. At least one.

    Args:
        workspace: where relative weights start.
        backbone: its weights decide how much memory a stage may need.
        threads: of each stage.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // threads, int(free_memory() // stage_memory(workspace, backbone))))


def stage_memory(workspace: Workspace, backbone: BackboneSettings) -> float:
    """Bytes that a stage may need at its peak: an estimate on the safe side."""
    weights = workspace.root / backbone.weights
    size = weights.stat().st_size if weights.is_file() else _UNKNOWN_WEIGHTS
    return _STAGE_BYTES + _WEIGHTS_TIMES * size


def free_memory(cgroup: Path = _CGROUP) -> float:
    """Bytes that new processes may take: of the machine, or of the container's limit where that is nearer."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        pages = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        cached = int(pages["inactive_file"])  # given back on demand
    except (OSError, ValueError, KeyError):  # no such version of cgroups, or the limit is "max"
        return free
    return min(free, max(0.0, float(limit - used + cached)))


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables of the environment inside, and what was there before after it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
