"""What is known of one cell of the matrix once it is evaluated, and the files that hold it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from flawline.evaluate.absent import ABSENT
from flawline.evaluate.cases import Case
from flawline.evaluate.histograms import PixelHistograms, SpooledHistograms
from flawline.evaluate.overlays import overlay
from flawline.evaluate.provenance import PROVENANCE
from flawline.evaluate.tables import write_metrics, write_table
from flawline.files import atomic_folder, write_json, write_parquet


class Identity(TypedDict):
    """Which cell it is: the first columns of the metrics table."""

    method: str
    seed: int
    train_set: str
    test_set: str


@dataclass(frozen=True)
class CellResult:
    """What was found; `write_cell` writes it. Dimensions: n images, h pixels a side of the maps.

    Attributes:
        scores: one row an image, in the row order of the features index.
        metrics: the tidy table (columns of results/metrics.csv).
        absent: what could not be computed and why, see `absent`.
        spooled: pixel counts of each image, on disk.
        curves: JSON-ready ROC and per-region curves.
        cases: the picked images.
        pictured: of each of them its map [h, h] and its mask, None where it does not count.
        scale: map values drawn darkest and brightest.
        use: [n] bool, images that take part in pixel metrics.
        confusion: table of true and named types, or None. provenance: hashes, or None.
    """

    scores: pd.DataFrame
    metrics: pd.DataFrame
    absent: dict[str, Any]
    spooled: SpooledHistograms
    curves: dict[str, Any]
    cases: list[Case]
    pictured: list[tuple[np.ndarray, np.ndarray | None]]
    scale: tuple[float, float]
    use: np.ndarray
    confusion: pd.DataFrame | None = None
    provenance: dict[str, str] | None = None

    @property
    def histograms(self) -> PixelHistograms:
        """The pixel counts of each image, in memory."""
        return self.spooled.load()


def write_cell(
    result: CellResult,
    folder: Path,
    image_loader: Callable[[str], Image.Image],
    support: dict[str, list[str]] | None = None,
) -> None:
    """Write a cell's files; the folder is whole or absent.

    Args:
        result: from `evaluate_cell` or `evaluate_stream`.
        folder: `Workspace.evaluation(cell, test)`.
        image_loader: gives the picture of a path as it stands in the scores table.
        support: hashes of the good images that a few-shot method looked at, by category.
    """
    with atomic_folder(folder) as partial:
        write_parquet(partial / "scores.parquet", result.scores)
        result.spooled.save(partial / "histograms.safetensors")
        write_metrics(partial / "metrics.csv", result.metrics)
        write_json(partial / ABSENT, result.absent)
        write_json(partial / "curves.json", result.curves)
        if result.confusion is not None:
            write_table(partial / "confusion.csv", result.confusion)
        if result.provenance is not None:
            write_json(partial / PROVENANCE, result.provenance)
        if support:
            write_json(partial / "support.json", support)
        (partial / "overlays").mkdir()
        notes = []
        for case, (anomaly_map, mask) in zip(result.cases, result.pictured, strict=True):
            row = result.scores.iloc[case.row]
            file = f"{case.kind}-{case.number}.png"
            picture = overlay(image_loader(row["image"]), mask, anomaly_map, result.scale)
            picture.save(partial / "overlays" / file, optimize=True)
            place = {"file": file, "case": case.kind, "image": row["image"], "category": row["category"]}
            notes.append(
                place
                | {"defect": row["defect"], "label": int(row["label"]), "score": float(row["image_score"])}
            )
        write_json(partial / "overlays" / "index.json", notes)
