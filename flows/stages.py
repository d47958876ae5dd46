"""DVC's stages as Prefect tasks: one task a stage, in DVC's order, only those that have to run."""

import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from flawline.errors import FlawlineError
from flawline.progress import track
from flawline.track import pipeline
from flawline.workspace import Workspace

_CRASH_TRIES = 2  # a stage that crashed is run once more; a lock is waited for longer
_DVC_SAYS = (
    "Running stage", "> ", "Updating lock file", "Use `dvc push`", "To track the changes", "\tgit add",
    "To enable auto staging", "\tdvc config core.autostage", "Generating lock file", "Verifying data sources",
    "ERROR: failed to reproduce",
)  # fmt: skip


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Locks, crashes and a busy machine may pass; a refused input will not."""
    try:
        state.result()
    except FlawlineError:
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
def dvc_stage(root: str, stage: str, force: bool) -> str:
    """Run one stage if it has to; its output goes to this task's log and to .state/logs/<stage>.log."""
    logger = get_run_logger()

    def hear(line: str) -> None:
        logger.info(line)
        if not line.startswith(_DVC_SAYS):
            say(f"    {line}")

    begin = time.monotonic()
    outcome = pipeline.run(Workspace(Path(root)), stage, force=force, on_line=hear)
    say(f"  {stage}: {outcome} in {time.monotonic() - begin:.1f} s")
    return outcome


@task(name="dvc stage", task_run_name="dvc: {stage}")
def dvc_unchanged(stage: str) -> str:
    """Stand in the run for a stage that did not have to run."""
    return "unchanged"


def run_stages(
    workspace: Workspace, wanted: Collection[pipeline.Stage], force: bool = False
) -> dict[str, str]:
    """Run these stages in their order, inside a flow.

    Args:
        workspace: where.
        wanted: stages, upstream first (`pipeline.stages`).
        force: run them even where nothing changed.

    Returns:
        `ran`, `restored` (from DVC's run cache) or `unchanged` by stage name.
    """
    root = str(workspace.root)
    names = {stage.name for stage in wanted}
    stale = pipeline.stale(workspace, names) if names else set()
    outcomes: dict[str, str] = {}
    for stage in track(wanted, "stages"):
        forced = force and stage.command
        touched = any(outcomes.get(up, "unchanged") != "unchanged" for up in stage.upstream)
        # Behind a stage that ran, only its real outputs tell: they may be the same bytes as before.
        if forced or stage.name in stale or (touched and pipeline.stale(workspace, [stage.name])):
            outcomes[stage.name] = dvc_stage(root, stage.name, forced)
        else:
            outcomes[stage.name] = dvc_unchanged(stage.name)
    return outcomes


def say(text: str) -> None:
    """A line for whoever watches; standard output is kept for results."""
    print(text, file=sys.stderr, flush=True)
