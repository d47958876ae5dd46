"""What Prefect, DVC and MLflow add to the demo: the flow in a fresh clone against its bare stage commands.

`python -m benchmarks.orchestration [--small] [--workers N]` runs `flawline retrain` in a clone that has no data yet
(so the pull counts, and so do the databases that a first run makes), reads from its dvc.lock which commands it ran, and
runs these again in a second clone, in the pipeline's order, with nothing around them: no DVC, no Prefect, no MLflow.

Both sides have as many stages at once, so that stages side by side do not hide what orchestration costs. How the flow
compares with the commands one after the other, as a shell script would have them, is told as well.
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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.demo_copies import SMALL, clone, environment, retrain
from benchmarks.harness import record
from flawline.determinism import stage_threads, thread_environment
from flawline.files import sha256_file
from flawline.settings import load_settings
from flawline.track.lock import locked_stages
from flawline.track.pipeline import Stage, stages
from flawline.workspace import Workspace

SECONDS_LIMIT, FRACTION_LIMIT = 20.0, 0.10


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--small", action="store_true", help="a short line instead of the demo; keeps no figures"
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
        return compare(keep.resolve(), asked.small, asked.workers)
    finally:
        if not asked.keep:
            shutil.rmtree(keep, ignore_errors=True)


def compare(folder: Path, small: bool, workers: int | None) -> int:
    """Run both sides, print and record; 1 where the limits are not kept."""
    assignments = [*(SMALL if small else ()), *([f"run.workers={workers}"] if workers else [])]
    flow = Workspace(clone(folder / "flow", assignments))
    bare = Workspace(clone(folder / "bare", assignments))
    cpu_before = _processor_seconds()
    flow_seconds = retrain(flow.root)
    flow_cpu = _processor_seconds() - cpu_before
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
    cpu_before = _processor_seconds()
    bare_seconds = run_bare(bare, order, commands, slots, each)
    bare_cpu = _processor_seconds() - cpu_before
    if sha256_file(bare.metrics) != sha256_file(flow.metrics):
        sys.exit("the bare commands and the flow gave different results/metrics.csv")
    added, alone = flow_seconds - bare_seconds, sum(each.values())
    figures = {
        "orchestration_overhead_seconds": added,
        "orchestration_overhead_fraction": added / bare_seconds,
        "orchestration_flow_seconds": flow_seconds,
        "orchestration_bare_seconds": bare_seconds,
    }
    print(
        f"{len(order)} stages, {slots} at once: flow {flow_seconds:.1f} s, bare commands {bare_seconds:.1f} s; "
        f"orchestration adds {added:.1f} s, {added / bare_seconds:.1%}"
    )
    print(
        f"processor time: flow {flow_cpu:.1f} s, bare commands {bare_cpu:.1f} s (other work lengthens the wall alone)"
    )
    print(f"the sum over the bare commands is {alone:.1f} s: the flow takes {flow_seconds / alone:.2f} of it")
    if not small:
        record(
            "orchestration", figures, stages=len(order), workers=slots, sum_of_stages_seconds=round(alone, 1)
        )
    return int(added > SECONDS_LIMIT or added / bare_seconds > FRACTION_LIMIT)


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
