"""One worker against two: the same retraining in fresh clones, and the same bytes at the end.

`python -m benchmarks.workers [--small] [--dask]` runs `flawline retrain` with one stage at a time and with two, or on a
local Dask cluster of one worker process and of two. The first run of a clone pulls the data and makes the databases:
so each side gets a clone of its own, and a result that differs ends the benchmark. `--sizes` does it for the short
line with one, two and four seeds, for the plot.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.demo_copies import SMALL, clone, retrain
from benchmarks.harness import record
from flawline.files import sha256_file
from flawline.line.lock import locked_stages
from flawline.workspace import Workspace


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--small", action="store_true", help="a short line instead of the demo; keeps no figures"
    )
    parser.add_argument("--dask", action="store_true", help="worker processes of Dask instead of threads")
    parser.add_argument(
        "--sizes", action="store_true", help="the short line with growing numbers of seeds, for the plot"
    )
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flawline-bench-"))
    try:
        if asked.sizes:
            return sizes(folder.resolve(), asked.dask)
        return compare(folder.resolve(), asked.small, asked.dask)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, assignments: Sequence[str], dask: bool) -> tuple[dict[int, float], int]:
    """Seconds with one and with two at a time, and how many stages ran; ends where the results differ."""
    took, results = {}, {}
    keys = {count: f"run.dask=local:{count}" if dask else f"run.workers={count}" for count in (1, 2)}
    roots = {count: clone(folder / str(count), [*assignments, key]) for count, key in keys.items()}
    for count, key in keys.items():
        took[count] = retrain(roots[count])
        workspace = Workspace(roots[count])
        results[count] = [sha256_file(workspace.metrics), sha256_file(workspace.lock)]
        print(f"{key}: {took[count]:.1f} s", flush=True)
    if results[1] != results[2]:
        sys.exit("results/metrics.csv or dvc.lock differ between one worker and two")
    return took, len(locked_stages(Workspace(roots[1]).lock))


def compare(folder: Path, small: bool, dask: bool) -> int:
    """Run both sides, print and record."""
    took, _ = measure(folder, SMALL if small else (), dask)
    where = "dask" if dask else "threads"
    speedup = took[1] / took[2]
    print(f"two workers ({where}) take {1 / speedup:.2f} of the time of one, with the same bytes")
    if not small:
        name = "two_dask_workers" if dask else "two_workers"
        figures = {f"{name}_speedup": speedup, f"{name}_seconds": took[2], f"{name}_one_seconds": took[1]}
        record("workers", figures)
    return 0


def sizes(folder: Path, dask: bool) -> int:
    """Seconds with one and two workers against the number of stages."""
    rows = []
    for seeds in ([0], [0, 1], [0, 1, 2, 3]):
        took, count = measure(folder / str(len(seeds)), [*SMALL, f"tune.seeds={seeds}"], dask)
        row = {"stages": count, "one worker": round(took[1], 1), "two workers": round(took[2], 1)}
        rows.append(row)
        print(row, flush=True)
    record("workers", {}, sizes=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
