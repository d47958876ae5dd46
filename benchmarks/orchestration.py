"""What Prefect, DVC and MLflow add to the demo: the flow in a fresh clone against its bare stage commands.

`python -m benchmarks.orchestration [--small] [--workers N]` runs `flawline retrain` in a clone that has no data yet
(so the pull counts, and so do the databases that a first run makes), reads from its dvc.lock which commands it ran, and
runs these again in a second clone, in the pipeline's order, with nothing around them: no DVC, no Prefect, no MLflow.

Both sides have as many stages at once, so that stages side by side do not hide what orchestration costs. How the flow
compares with the commands one after the other, as a shell script would have them, is told as well.

`python -m benchmarks.orchestration --sizes` does both for the short line with one to four seeds, for the plot.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from benchmarks.demo_copies import SMALL, clone, environment, retrain
from benchmarks.harness import record
from flawline.determinism import stage_threads, thread_environment
from flawline.files import sha256_file
from flawline.line.lock import locked_stages
from flawline.line.pipeline import Stage, stages
from flawline.settings import load_settings
from flawline.workspace import Workspace

SECONDS_LIMIT, FRACTION_LIMIT = 20.0, 0.10


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--small", action="store_true", help="a short line instead of the demo; keeps no figures"
    )
    parser.add_argument(
        "--sizes", action="store_true", help="the short line with growing numbers of seeds, for the plot"
    )
    parser.add_argument(
        "--workers", type=int, help="stages at once on both sides; by default as run.workers says"
    )
    parser.add_argument(
        "--keep", type=Path, help="a new folder for the clones, which stay; by default a temporary one"
    )
    asked = parser.parse_args()
    keep = asked.keep or Path(tempfile.mkdtemp(prefix="flawline-bench-"))
    try:
        if asked.sizes:
            return sizes(keep.resolve(), asked.workers)
        assignments = SMALL if asked.small else ()
        return report(measure(keep.resolve(), assignments, asked.workers), kept=not asked.small)
    finally:
        if not asked.keep:
            shutil.rmtree(keep, ignore_errors=True)


@dataclass(frozen=True)
class Measured:
    """Both sides of one line: seconds on the wall, processor seconds, and what the stages took one by one."""

    stages: int
    slots: int
    flow: float
    flow_processor: float
    bare: float
    bare_processor: float
    alone: float


def measure(folder: Path, assignments: Sequence[str], workers: int | None) -> Measured:
    """Run both sides in new clones below `folder`; ends the program where their results differ."""
    assignments = [*assignments, *([f"run.workers={workers}"] if workers else [])]
    flow = Workspace(clone(folder / "flow", assignments))
    bare = Workspace(clone(folder / "bare", assignments))
    before = _processor_seconds()
    flow_seconds = retrain(flow.root)
    flow_processor = _processor_seconds() - before
    slots = workers or _auto(flow)
    for name in (
        "data",
        "backbones",
        "decisions",
    ):  # pulled and decided by the flow; the commands only read them
        shutil.copytree(flow.root / name, bare.root / name, dirs_exist_ok=True)
    commands = {name: str(entry["cmd"]) for name, entry in locked_stages(flow.lock).items()}
    order = [stage for stage in stages(flow) if stage.name in commands]
    each: dict[str, float] = {}
    before = _processor_seconds()
    bare_seconds = run_bare(bare, order, commands, slots, each)
    bare_processor = _processor_seconds() - before
    if sha256_file(bare.metrics) != sha256_file(flow.metrics):
        sys.exit("the bare commands and the flow gave different results/metrics.csv")
    alone = sum(each.values())
    return Measured(len(order), slots, flow_seconds, flow_processor, bare_seconds, bare_processor, alone)


def report(found: Measured, kept: bool) -> int:
    """Print, record; 1 where the limits are not kept."""
    added = found.flow - found.bare
    print(
        f"{found.stages} stages, {found.slots} at once: flow {found.flow:.1f} s, bare commands {found.bare:.1f} s; "
        f"orchestration adds {added:.1f} s, {added / found.bare:.1%}"
    )
    print(
        f"processor time: flow {found.flow_processor:.1f} s, bare commands {found.bare_processor:.1f} s "
        "(other work lengthens the wall alone)"
    )
    print(
        f"the sum over the bare commands is {found.alone:.1f} s: the flow takes {found.flow / found.alone:.2f} of it"
    )
    if kept:
        figures = {
            "orchestration_overhead_seconds": added,
            "orchestration_overhead_fraction": added / found.bare,
            "orchestration_flow_seconds": found.flow,
            "orchestration_bare_seconds": found.bare,
        }
        record(
            "orchestration",
            figures,
            stages=found.stages,
            workers=found.slots,
            sum_of_stages_seconds=round(found.alone, 1),
            processor_seconds={
                "flow": round(found.flow_processor, 1),
                "bare": round(found.bare_processor, 1),
            },
        )
    return int(added > SECONDS_LIMIT or added / found.bare > FRACTION_LIMIT)


def sizes(folder: Path, workers: int | None) -> int:
    """Seconds of both sides against the number of stages."""
    rows = []
    for seeds in ([0], [0, 1], [0, 1, 2, 3]):
        found = measure(folder / str(len(seeds)), [*SMALL, f"tune.seeds={seeds}"], workers)
        row = {"stages": found.stages, "flow": round(found.flow, 1), "bare commands": round(found.bare, 1)}
        rows.append(row)
        print(row, flush=True)
    record("orchestration", {}, sizes=rows)
    return 0


def _processor_seconds() -> float:
    """Of all ended children of this process, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _auto(workspace: Workspace) -> int:
    from flows.runners import auto_workers

    settings = load_settings(workspace.params)
    if settings.run.workers != "auto":
        return settings.run.workers
    return auto_workers(workspace, settings.backbone, stage_threads(settings.run.threads))


def run_bare(
    workspace: Workspace, order: list[Stage], commands: dict[str, str], slots: int, each: dict[str, float]
) -> float:
    """Run the commands, each after those it needs, at most `slots` at once.

    Args:
        workspace: where.
        order: the stages, upstream first.
        commands: by stage name.
        slots: how many at once.
        each: filled in: seconds of each command by stage name.

    Returns:
        Seconds on the wall.
    """
    threads = stage_threads(load_settings(workspace.params).run.threads)
    surroundings = {**environment(workspace.root), **thread_environment(threads)}
    stop = threading.Event()

    def run(stage: Stage) -> str:
        if stop.is_set():
            return stage.name
        begin = time.monotonic()
        done = subprocess.run(
            ["/bin/sh", "-c", commands[stage.name]],
            cwd=workspace.root,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        each[stage.name] = time.monotonic() - begin
        if done.returncode:
            stop.set()
            raise RuntimeError(f"{commands[stage.name]} failed:\n{done.stdout[-2000:]}")
        return stage.name

    begin = time.monotonic()
    waiting, ended = {stage.name: stage for stage in order}, set[str]()
    running: set[Future[str]] = set()
    with ThreadPoolExecutor(slots) as pool:
        while waiting or running:
            ready = [
                s for s in waiting.values() if all(up in ended or up not in commands for up in s.upstream)
            ]
            for stage in ready[: slots - len(running)]:
                running.add(pool.submit(run, waiting.pop(stage.name)))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            ended |= {future.result() for future in finished}
    return time.monotonic() - begin


if __name__ == "__main__":
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    sys.exit(main())
