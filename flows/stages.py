"""DVC's stages as Prefect tasks: one task a stage, each after what it needs, only those that have to run."""

import queue
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from prefect import task
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from flawline.errors import FlawlineError
from flawline.line import pipeline
from flawline.line.capture import Stopped
from flawline.progress import track
from flawline.report import timing
from flawline.workspace import Workspace
from flows.away import Away
from flows.runners import Runner

_CRASH_TRIES = 2  # a stage that crashed is run once more; a lock is waited for longer
_DVC_SAYS = (
    "Running stage", "> ", "Updating lock file", "Use `dvc push`", "To track the changes", "\tgit add",
    "To enable auto staging", "\tdvc config core.autostage", "Generating lock file", "Verifying data sources",
    "ERROR: failed to reproduce",
)  # fmt: skip


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Locks, crashes, a busy machine and a server that is away may pass; a refused input will not."""
    try:
        state.result()
    except Away:
        return True
    except (FlawlineError, Stopped):
        return False
    except pipeline.StageCrashed:
        return int(task_run.run_count) < _CRASH_TRIES
    except Exception:
        return True
    return False


@task(
    name="dvc stage",
    task_run_name="dvc: {stage}",
    retries=5,
    retry_delay_seconds=[1, 2, 4, 8, 16],
    retry_condition_fn=worth_retrying,
)
def dvc_stage(root: str, stage: str, force: bool, threads: int | None = None, named: bool = False) -> str:
    """Run one stage if it has to; its output goes to this task's log and to .state/logs/<stage>.log.

    Args:
        root: the workspace.
        stage: as DVC names it.
        force: run it even where nothing changed.
        threads: of the stage; by default what the environment says.
        named: whether lines shown on the way begin with the stage's name, because others speak as well.
    """
    logger = get_run_logger()
    before = f"    {stage}: " if named else "    "

    def hear(line: str) -> None:
        logger.info(line)
        if not line.startswith(_DVC_SAYS):
            say(before + line)

    workspace, peaks, begin = Workspace(Path(root)), list[int](), time.monotonic()
    outcome = pipeline.run(workspace, stage, force=force, threads=threads, on_line=hear, on_peak=peaks.append)
    if outcome == "ran":
        took = time.monotonic() - begin
        timing.record(workspace, timing.Measured(stage, took, peaks[0] if peaks else None))
    return outcome


@task(name="dvc stage", task_run_name="dvc: {stage}")
def dvc_unchanged(stage: str) -> str:
    """Stand in the run for a stage that did not have to run."""
    return "unchanged"


def run_stages(
    workspace: Workspace, wanted: Collection[pipeline.Stage], runner: Runner, force: bool = False
) -> dict[str, str]:
    """Run these stages inside a flow, side by side where none waits for the other.

    Where one fails, those that already run may end, and nothing new begins.

    Args:
        workspace: where.
        wanted: stages, upstream first (`pipeline.stages`).
        runner: takes their tasks.
        force: run them even where nothing changed.

    Returns:
        `ran`, `restored` (from DVC's run cache) or `unchanged` by stage name, in the order of `wanted`.

    Raises:
        FlawlineError: a stage refused its input. The first failure, of whichever kind, is the one that is raised.
    """
    found = dict(track(_Line(workspace, wanted, runner, force).outcomes(), "stages", len(wanted)))
    return {stage.name: found[stage.name] for stage in wanted}


class _Line:
    """The stages of one call: which wait, which run, and what became of those that ended."""

    def __init__(
        self, workspace: Workspace, wanted: Collection[pipeline.Stage], runner: Runner, force: bool
    ) -> None:
        self._workspace, self._runner, self._force = workspace, runner, force
        self._waiting = {stage.name: stage for stage in wanted}
        self._stale = pipeline.stale(workspace, self._waiting) if wanted else set()
        self._ended: dict[str, str] = {}
        self._running: dict[str, float] = {}  # by name, when it began (monotonic seconds)
        self._done: queue.SimpleQueue[tuple[str, PrefectFuture[str]]] = queue.SimpleQueue()

    def outcomes(self) -> Iterator[tuple[str, str]]:
        """Each stage's name and outcome as it ends."""
        failure: BaseException | None = None
        try:
            while self._running or (self._waiting and not failure):
                if not failure:
                    yield from self._begin()
                if self._running:
                    name, future = self._done.get()
                    took = time.monotonic() - self._running.pop(name)
                    try:
                        self._ended[name] = future.result()
                    except Exception as error:
                        failure = failure or error
                        if self._running:
                            say(f"  {name}: failed; {', '.join(self._running)} may end, nothing new begins")
                    else:
                        say(f"  {name}: {self._ended[name]} in {took:.1f} s")
                        yield name, self._ended[name]
        except BaseException:  # Ctrl-C, or Prefect cancels the run: the commands are not ours to outlive
            self._runner.stop()
            raise
        if failure:
            raise failure

    def _begin(self) -> Iterator[tuple[str, str]]:
        """Begin as many ready stages as there are slots; those that need not run end at once."""
        while ready := self._ready():
            touched = [
                stage.name for stage in ready if stage.name not in self._stale and self._touched(stage)
            ]
            if touched:
                # Behind a stage that ran, only its real outputs tell: they may be the same bytes as before.
                self._stale |= pipeline.stale(self._workspace, touched)
            idle = [s for s in ready if s.name not in self._stale and not (self._force and s.command)]
            for stage in idle:
                del self._waiting[stage.name]
                self._ended[stage.name] = dvc_unchanged(stage.name)
                yield stage.name, self._ended[stage.name]
            if not idle:  # else others may be ready now
                free = max(1, self._runner.slots()) - len(self._running)
                for stage in ready[: max(0, free)]:
                    self._submit(stage)
                return

    def _ready(self) -> list[pipeline.Stage]:
        open_ones = {*self._waiting, *self._running}
        return [stage for stage in self._waiting.values() if not open_ones.intersection(stage.upstream)]

    def _touched(self, stage: pipeline.Stage) -> bool:
        return any(self._ended.get(up, "unchanged") != "unchanged" for up in stage.upstream)

    def _submit(self, stage: pipeline.Stage) -> None:
        name = stage.name
        del self._waiting[name]
        self._running[name] = time.monotonic()
        parameters = {
            "root": str(self._workspace.root),
            "stage": name,
            "force": self._force and stage.command,
            "threads": self._runner.threads,
            "named": self._runner.slots() > 1,
        }
        future = self._runner.tasks.submit(dvc_stage, parameters)
        future.add_done_callback(lambda ended: self._done.put((name, ended)))


def say(text: str) -> None:
    """A line for whoever watches, whole also where several speak; standard output is kept for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
