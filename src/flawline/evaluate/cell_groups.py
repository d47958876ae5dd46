"""The groups of images that a cell's table is about: each category, and each of its defect types."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from flawline.evaluate.absent import Absences
from flawline.evaluate.bootstrap import interval
from flawline.evaluate.cell_files import Identity
from flawline.evaluate.measure import Images, Measured, Measurement, macro, measure
from flawline.evaluate.streaming import PixelAccumulator
from flawline.evaluate.sweep import GOOD, Sweep
from flawline.evaluate.tables import COLUMNS
from flawline.progress import track
from flawline.settings import EvaluateSettings

#: metrics of a defect type's images against the good ones of its category
TYPE_METRICS = ("image_auroc", "pixel_auroc", "aupro")
ALL = "all"


def measure_groups(
    sweep: Sweep, images: Images, settings: EvaluateSettings
) -> tuple[dict[tuple[str, str], Measurement], Absences]:
    """Each category (`all`), and of each the defect types against its good images."""
    groups: dict[tuple[str, str], Measurement] = {}
    absences = Absences()

    def batches() -> Iterator[int]:
        for category in sorted(set(images.categories.tolist())):
            swept = sweep.category(category)
            yield from swept.batches()
            _measure_category(category, swept.pixels, images, settings, groups, absences)

    for _ in track(batches(), "batches of images", len(images.labels) // sweep.batch + 1):
        pass
    return groups, absences


def _measure_category(
    category: str,
    pixels: dict[str, PixelAccumulator],
    images: Images,
    settings: EvaluateSettings,
    groups: dict[tuple[str, str], Measurement],
    absences: Absences,
) -> None:
    inside = images.categories == category

    def note(defect: str, rows: np.ndarray, parts: list[str], only: tuple[str, ...] = ()) -> None:
        together = PixelAccumulator()
        for part in parts:
            if part in pixels:
                together.merge(pixels[part])
        found = measure(images, np.flatnonzero(rows), together, settings)
        absences.note(category, defect, found, only)
        if defect == ALL:
            absences.rough(category, together.auroc_bound())
        kept = {name: one for name, one in found.found.items() if not only or name in only}
        groups[category, defect] = Measurement(kept, found.absent, found.curve)

    note(ALL, inside, sorted(pixels))
    for defect in sorted(set(images.defects[inside & (images.labels == 1)].tolist())):
        of_type = (images.labels == 1) & (images.defects == defect)
        note(defect, inside & ((images.labels == 0) | of_type), [GOOD, defect], TYPE_METRICS)


def tabulate(
    groups: dict[tuple[str, str], Measurement],
    more: dict[tuple[str, str, str], Measured],
    identity: Identity,
    confidence: float,
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    of_all: dict[str, list[Measured]] = {}

    def add(category: str, defect: str, metric: str, one: Measured) -> None:
        low, high = interval(one.samples, confidence)
        place = {"category": category, "defect": defect, "metric": metric}
        size = {"n_normal": one.n_normal, "n_anomalous": one.n_anomalous}
        rows.append({**identity, **place, "value": one.value, "ci_low": low, "ci_high": high, **size})

    for (category, defect), group in groups.items():
        for metric, one in group.found.items():
            add(category, defect, metric, one)
            if defect == ALL:
                of_all.setdefault(metric, []).append(one)
    for metric, parts in of_all.items():
        add("mean", ALL, metric, macro(parts))
    for (category, defect, metric), one in sorted(more.items()):
        add(category, defect, metric, one)
    return pd.DataFrame(rows, columns=list(COLUMNS))
