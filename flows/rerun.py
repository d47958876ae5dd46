"""An exact rerun: a recorded retraining made again in a worktree of its own, and compared byte for byte.

    read the run → worktree at its commit → data → are the sources the same? → every stage anew → compare

Nothing in the workspace changes: no result, no registry, no decision.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flawline.determinism import THREADS
from flawline.errors import FlawlineError
from flawline.line import pipeline
from flawline.line.lock import locked_stages
from flawline.line.lock_order import arrange
from flawline.line.recover import session
from flawline.rerun import differences, worktree
from flawline.settings import Settings, load_settings
from flawline.track import origin
from flawline.track.recorded import Recorded, find_lock, read_run
from flawline.workspace import Workspace
from flows.prefect_here import prefect_here
from flows.runners import environment, stage_runner
from flows.stages import run_stages, say


@dataclass(frozen=True)
class Rerun:
    """What came of it.

    Attributes:
        recorded: the run that was made again.
        stages: names of the stages that were compared.
        outputs: how many outputs they have.
        differences: everything that is not as it was recorded. Of a folder that stages fill and others read, the
            recorded hash also covers what other runs had left there: an input alone makes no result another one.
        machines: sentences about where it was made and where it was made again.
        computed: False where the sources differ already, so that nothing was run.
    """

    recorded: Recorded
    stages: tuple[str, ...]
    outputs: int
    differences: tuple[differences.Difference, ...]
    machines: tuple[str, ...]
    computed: bool

    @property
    def same(self) -> bool:
        """Every output and every table is the same, byte for byte."""
        return not (
            self.differences if not self.computed else [d for d in self.differences if d.kind != "input"]
        )


@flow(name="rerun")
def recompute(root: str, settings_of: str, threads: int) -> list[str]:
    """Run every stage before the gate anew.

    Args:
        root: the worktree's workspace.
        settings_of: params.yaml of the calling workspace: how many stages at once is this machine's business.
        threads: of each stage, as recorded.

    Returns:
        The stages' names.
    """
    workspace, settings = Workspace(Path(root)), load_settings(Path(settings_of))
    here = settings.run.model_copy(update={"threads": threads, "dask": None})
    every = pipeline.stages(workspace)
    late = pipeline.after_decision(every)
    wanted = [stage for stage in every if stage.name not in late]
    with stage_runner(workspace, settings.model_copy(update={"run": here})) as runner:
        run_stages(workspace, wanted, runner, force=True)
    arrange(workspace, [stage.name for stage in every])
    return [stage.name for stage in wanted if stage.command]


def rerun(
    workspace: Workspace, settings: Settings, run: str, into: Path | None = None, keep: bool = False
) -> Rerun:
    """Make a recorded retraining again and compare.

    Args:
        workspace: a clone that has the run's commit; only read.
        settings: of it; they name the store.
        run: the MLflow run's id or its first characters.
        into: folder for the worktree; by default below .state/rerun/.
        keep: leave the worktree also where all is the same. It stays in any case where something differs, or where
            the first stage began and another failed.

    Raises:
        FlawlineError: see `read_run` and `worktree.add`; the data cannot be pulled; a stage failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        fetched, scratch = Path(folder) / "run", Path(folder) / "lock"
        fetched.mkdir()
        scratch.mkdir()
        recorded = read_run(workspace, settings, run, fetched)
        place = (into or workspace.state / "rerun" / recorded.run_id).absolute()
        say(f"run {recorded.run_id}, commit {recorded.commit[:12]}, into {place}")
        inside = worktree.add(workspace, recorded.commit, place, recorded.patch)
        found = None
        try:
            _take_over(recorded, inside)
            found = _made_again(workspace, settings, recorded, inside, scratch)
        finally:
            worth_a_look = not found.same if found else inside.out.is_dir()
            if worth_a_look or keep:
                say(f"the worktree stays: {place} (remove it: git worktree remove --force {place})")
            else:
                worktree.remove(workspace, place)
    return found


def _made_again(
    workspace: Workspace, settings: Settings, recorded: Recorded, inside: Workspace, scratch: Path
) -> Rerun:
    here = origin.machine(int(recorded.machine.get("threads") or settings.run.threads))
    machines = tuple(origin.unlike({**recorded.machine, "threads": here["threads"]}, here))
    with _its_own_code(inside, here["threads"]), session(inside), prefect_here(inside):
        _fetch(inside)
        every = pipeline.stages(inside)
        lock = find_lock(workspace, recorded, {stage.name for stage in every}, scratch)
        late = pipeline.after_decision(every)
        wanted = [stage.name for stage in every if stage.command and stage.name not in late]
        before = locked_stages(lock)
        count = differences.outputs(before, wanted)
        # Where the stages would read other things than the recorded ones did, running them says nothing.
        if changed := differences.compare_sources(before, inside, wanted):
            return Rerun(recorded, tuple(wanted), count, tuple(changed), machines, False)
        inside.lock.unlink(missing_ok=True)  # every entry that is compared is written by this rerun
        ran = recompute(str(inside.root), str(workspace.params), here["threads"])
    now = locked_stages(inside.lock)
    found = differences.compare_locks(before, now, ran)
    caches = workspace.root / ".dvc" / "cache" / "files" / "md5", inside.root / ".dvc/cache/files/md5"
    for item in [item for item in found if item.first]:
        found += differences.inside(item, *caches)
    found += differences.compare_tables(before, recorded.folder, inside.results)
    return Rerun(recorded, tuple(ran), count, tuple(found), machines, True)


def _take_over(recorded: Recorded, inside: Workspace) -> None:
    """The files that describe the run lie in the worktree as they were, also where git does not track them."""
    kept = (recorded.folder / origin.FOLDER).glob(f"*{origin.SHELVED}")
    for file in (recorded.folder / "params.yaml", *sorted(kept)):
        shutil.copyfile(file, inside.root / file.name.removesuffix(origin.SHELVED))


def _fetch(inside: Workspace) -> None:
    """Data and backbones: from the DVC remote, else from the workspace's own cache."""
    from flawline.data.versioning import pull

    try:
        pull(inside)
    except FlawlineError as error:
        say(f"{error.problem}; looking in the workspace's own cache")
        try:
            pull(inside, remote=worktree.CACHE_REMOTE)
        except FlawlineError:
            raise error from None


@contextmanager
def _its_own_code(inside: Workspace, threads: int) -> Iterator[None]:
    """Stages import the worktree's own package, and run with the recorded number of threads."""
    source = inside.root / "src"
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(source), *([known] if known else [])]) if source.is_dir() else known
    with environment({THREADS: str(threads)} | ({"PYTHONPATH": path} if path else {})):
        yield
