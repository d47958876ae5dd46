"""Streaming pixel metrics against the loop over 200 thresholds, and against the exact ones, on the same maps.

The loop is the routine of the published code, step for step: for every threshold the maps are binarised and the
regions of every mask are labelled and measured anew. A second loop labels the masks once, which the published code does
not. All sides run in this process on one thread, in turn; what counts is processor time, which other programs on the
machine do not stretch. The streaming side computes pixel AUROC, AP, F1-max, AUPRO
and the papers' AUPRO; the loops compute the papers' AUPRO alone.

    python -m benchmarks.streaming_metrics [images] [side]
    python -m benchmarks.streaming_metrics sizes        # for the plot: 8 maps of growing side
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import ndimage
from skimage import measure as regions_of
from sklearn.metrics import auc

from benchmarks.harness import record
from flawline.evaluate.aupro import aupro
from flawline.evaluate.aupro_200 import aupro_200
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.streaming import PixelAccumulator

LIMIT = 0.3


def make(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 [n, s, s] of smooth noise that is higher on defects, squashed to 0..1, and masks bool [n, s, s]."""
    random = np.random.default_rng(0)
    maps, masks = np.zeros((count, side, side), np.float32), np.zeros((count, side, side), bool)
    for number in range(count):
        for _ in range(3 * (number % 4 > 0)):  # a quarter of the images are good
            top, left = random.integers(0, side * 3 // 4, 2)
            high, wide = random.integers(side // 50, side // 5, 2)
            masks[number, top : top + high, left : left + wide] = True
        noise = ndimage.gaussian_filter(random.normal(size=(side, side)), side / 60)
        ridge = ndimage.gaussian_filter(masks[number].astype(float), side / 100)
        maps[number] = 1 / (1 + np.exp(-(noise / noise.std() + 2 * ridge - 2)))
    return maps, masks


def papers_loop(maps: np.ndarray, masks: np.ndarray, label_once: bool) -> float:
    """The papers' AUPRO as the published code loops for it; `label_once`: the masks' regions are found beforehand."""
    low, high = maps.min(), maps.max()
    held = [regions_of.regionprops(regions_of.label(mask)) for mask in masks] if label_once else None
    called = np.zeros(maps.shape, bool)
    good = 1 - masks
    fprs, pros = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        called[maps <= threshold], called[maps > threshold] = False, True
        overlaps = []
        for number, one in enumerate(called):
            found = held[number] if held else regions_of.regionprops(regions_of.label(masks[number]))
            for region in found:
                hits = one[region.coords[:, 0], region.coords[:, 1]].sum()
                overlaps.append(hits / region.area)
        pros.append(np.mean(overlaps))
        fprs.append(np.logical_and(good, called).sum() / good.sum())
    fpr, pro = np.asarray(fprs), np.asarray(pros)
    kept = fpr < LIMIT
    fpr = (fpr[kept] - fpr[kept].min()) / (fpr[kept].max() - fpr[kept].min())
    return float(auc(fpr, pro[kept]))


def stream(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """All pixel metrics from an accumulator that sees a dozen images at a time and holds no pixels."""
    pixels = PixelAccumulator(exact=0)
    for start in range(0, len(maps), 7):
        pixels.update(maps[start : start + 7], masks[start : start + 7])
    return pixels.metrics(LIMIT)


def exact(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """All pixel metrics by sorting all pixels."""
    ranking = rank_pixels(maps, masks)
    curve, papers = aupro(ranking, LIMIT), aupro_200(maps, masks, LIMIT)
    assert curve is not None and papers is not None
    return {**pixel_metrics(ranking), "aupro": curve.value, "aupro_200": papers}


def processor_seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """Median processor time of a call."""
    took = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return statistics.median(took)


def main(count: int = 24, side: int = 518) -> None:
    """Measure, check and record."""
    maps, masks = make(count, side)
    streamed, wanted = stream(maps, masks), exact(maps, masks)
    error = max(abs(streamed[name] - value) for name, value in wanted.items())
    looped = papers_loop(maps, masks, label_once=True)
    print(f"{count} maps of {side} x {side}: largest difference to exact {error:.1e}")
    print(
        f"aupro_200 {streamed['aupro_200']:.6f}, the loop's {looped:.6f}; exact AUPRO {wanted['aupro']:.6f}"
    )
    assert error < 1e-4 and abs(looped - streamed["aupro_200"]) < 1e-4
    took = {
        "stream": processor_seconds(lambda: stream(maps, masks), 5),
        "exact": processor_seconds(lambda: exact(maps, masks)),
        "loop_labels_once": processor_seconds(lambda: papers_loop(maps, masks, label_once=True), 1),
        "loop": processor_seconds(lambda: papers_loop(maps, masks, label_once=False), 1),
    }
    for name, seconds in took.items():
        print(f"{name:18s} {1e3 * seconds / count:9.2f} ms a map")
    record(
        "streaming_metrics",
        {
            "streaming_vs_200_loop": took["loop"] / took["stream"],
            "streaming_vs_200_loop_labels_once": took["loop_labels_once"] / took["stream"],
            "streaming_vs_exact": took["exact"] / took["stream"],
            "streaming_largest_error": error,
        },
        images=count,
        side=side,
        milliseconds_a_map={name: round(1e3 * seconds / count, 3) for name, seconds in took.items()},
    )


def sizes(count: int = 8) -> None:
    """Milliseconds a map against its side, for the plot of docs/performance.md."""
    rows = []
    for side in (128, 256, 384, 518):
        maps, masks = make(count, side)
        took = {
            "streaming": processor_seconds(partial(stream, maps, masks)),
            "exact": processor_seconds(partial(exact, maps, masks)),
            "200 thresholds, regions labelled once": processor_seconds(
                partial(papers_loop, maps, masks, True), 1
            ),
            "200 thresholds, as published": processor_seconds(partial(papers_loop, maps, masks, False), 1),
        }
        rows.append(
            {"side": side, **{name: round(1e3 * seconds / count, 3) for name, seconds in took.items()}}
        )
        print(rows[-1], flush=True)
    record("streaming_metrics", {}, sizes=rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["sizes"]:
        sizes()
    else:
        main(*(int(argument) for argument in sys.argv[1:3]))
