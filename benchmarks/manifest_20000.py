"""Manifest and checks of many small images: how long the first run takes, and how long a second one.

`python -m benchmarks.manifest_20000 [--images N]` draws its own images (72 px, one in four defective, with a mask) in
a temporary folder and runs `flawline data check` there twice, each time as a process of its own, start included. Beside
the seconds on the wall it keeps those of the processor: other work on the machine lengthens the first alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import record
from flawline.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
SIDE = 72  # pixels; checks.min_side is 64
FIRST_LIMIT, SECOND_LIMIT = 120.0, 10.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="flawline-bench-") as folder:
        workspace = Path(folder)
        draw(workspace, images)
        time.sleep(2.5)  # a file that changed in the two seconds before a run is not remembered
        (first, first_cpu), (second, second_cpu) = check(workspace), check(workspace)
    figures = {
        "manifest_checks_first_seconds": first,
        "manifest_checks_second_seconds": second,
        "manifest_checks_second_speedup": first / second,
    }
    told = {"images": images, "cpu_seconds": [round(first_cpu, 1), round(second_cpu, 1)]}
    if images >= 20_000:
        record("manifest_20000", figures, **told, limits_seconds=[FIRST_LIMIT, SECOND_LIMIT])
    print(
        f"{images} images: first run {first:.1f} s ({first_cpu:.1f} s of processor time), second {second:.1f} s "
        f"({second_cpu:.1f} s)"
    )
    return int(first > FIRST_LIMIT or second > SECOND_LIMIT)


def draw(workspace: Path, images: int) -> None:
    """The data sets of params.yaml, ten categories each: half of the images train, a quarter are defective."""
    for name in ("params.yaml", "vocabulary.yaml"):
        (workspace / name).write_bytes((ROOT / name).read_bytes())
    datasets = load_settings(workspace / "params.yaml").data.all
    each = -(-images // (10 * len(datasets)))
    places = []
    for dataset in datasets:
        for number in range(10):
            folder = workspace / "data" / dataset / f"part_{number}"
            places += [(folder, dataset, number, index, each) for index in range(each)]
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda place: draw_one(*place), places))


def draw_one(folder: Path, dataset: str, number: int, index: int, each: int) -> None:
    noise = np.random.default_rng([*dataset.encode(), number, index])
    pixels = noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    if index < each // 2:
        place = folder / "train" / "good" / f"{index:05}.png"
    elif index < each * 3 // 4:
        place = folder / "test" / "good" / f"{index:05}.png"
    else:
        place = folder / "test" / "scratch" / f"{index:05}.png"
        marked = np.zeros((SIDE, SIDE), dtype=np.uint8)
        marked[8:20, 8:20] = 255
        save(Image.fromarray(marked), folder / "ground_truth" / "scratch" / f"{index:05}_mask.png")
    save(Image.fromarray(pixels), place)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def check(workspace: Path) -> tuple[float, float]:
    """Seconds that `flawline data check` takes: on the wall, start of the process included, and of the processor."""
    environment = {**os.environ, "FLAWLINE_WORKSPACE": str(workspace), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "flawline", "data", "check"]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        command, env=environment, cwd=workspace, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"flawline data check ended with {done.returncode}: {done.stderr[-2000:]}")
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, children


if __name__ == "__main__":
    raise SystemExit(main())
