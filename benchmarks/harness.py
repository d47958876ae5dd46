"""What all benchmarks share: measuring two sides in turn, and keeping the figures in benchmarks/results.json.

A benchmark has a `main()` that prints its ratios and ends with `record(...)`. The file holds each figure by its name,
and under `details` what the benchmark of that name told of itself: machine, versions and settings. No clock, no commit
is kept: a second run on the same machine changes the figures alone.

Run a benchmark from the root of the checkout: `python -m benchmarks.NAME`.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
LIBRARIES = ("torch", "numpy", "scipy", "open_clip_torch", "prefect", "dvc", "mlflow")
DETAILS = "details"


def machine() -> dict[str, Any]:
    """Processor, usable cores and memory in GiB."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        processor = named[0] if named else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": processor, "cores": cores, "memory_gib": round(memory), "system": platform.system()}


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide the figures, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def in_turn(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each side, run one after the other `rounds` times, so that both see the same load.

    Args:
        sides: what to run, by name.
        rounds: measured rounds.
        warm: rounds before them that do not count.
        clock: `time.process_time` counts processor seconds: for work without waiting, on a machine that others use.
    """
    took: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm + rounds):
        for name, run in sides.items():
            start = clock()
            run()
            if number >= warm:
                took[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def record(benchmark: str, figures: Mapping[str, float], path: Path = RESULTS, **details: Any) -> None:
    """Put figures into the results file, beside those of other benchmarks; several may end at the same time.

    Args:
        benchmark: its module's name; figures of the same name are replaced.
        figures: name → number, rounded to four digits.
        path: the results file.
        details: settings and what else a reader has to know; JSON values.
    """
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        told = known.setdefault(DETAILS, {})
        told[benchmark] = {**told.get(benchmark, {}), "machine": machine(), "versions": versions(), **details}
        known |= {name: float(f"{value:.4g}") for name, value in figures.items()}
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(
            json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        partial.replace(path)
    Path(f"{path}.lock").unlink(missing_ok=True)
    for name, value in sorted(figures.items()):
        print(f"{name} = {value:.4g}", flush=True)
