"""One cell of the matrix: one prompt set on one test set, turned into a table, curves and pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from flawline.errors import FlawlineError
from flawline.evaluate.aupro import Aupro, thin
from flawline.evaluate.bootstrap import interval
from flawline.evaluate.cases import Case, pick_cases
from flawline.evaluate.histograms import PixelHistograms, pixel_histograms, quantile_edges, region_histograms
from flawline.evaluate.image_metrics import roc_points
from flawline.evaluate.measure import Images, Measured, macro, measure
from flawline.evaluate.overlays import heat_scale, overlay
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.tables import COLUMNS, write_metrics
from flawline.evaluate.types import TypeScores, type_metrics
from flawline.files import atomic_folder, write_json, write_parquet
from flawline.settings import EvaluateSettings

GOOD = "good"
TYPE_METRICS = ("image_auroc", "pixel_auroc", "aupro")


class Identity(TypedDict):
    """Which cell it is: the first columns of the metrics table."""

    method: str
    seed: int
    train_set: str
    test_set: str


@dataclass(frozen=True)
class CellResult:
    """What `evaluate_cell` found; `write_cell` writes it.

    Attributes:
        scores: one row an image, in the row order of the features index.
        metrics: the tidy table (columns of results/metrics.csv).
        histograms: pixel counts of each image.
        curves: JSON-ready ROC and per-region curves.
        cases: the picked images.
        maps, masks: [n, h, w], kept for the pictures; `use` [n] says which masks count.
        use: see `masks`.
    """

    scores: pd.DataFrame
    metrics: pd.DataFrame
    histograms: PixelHistograms
    curves: dict[str, Any]
    cases: list[Case]
    maps: np.ndarray
    masks: np.ndarray
    use: np.ndarray


def evaluate_cell(
    index: pd.DataFrame,
    image_scores: np.ndarray,
    maps: np.ndarray,
    masks: list[np.ndarray | None] | np.ndarray,
    settings: EvaluateSettings,
    identity: Identity,
    types: TypeScores | None = None,
    type_words: list[str] | None = None,
) -> CellResult:
    """Measure one prompt set on one test set.

    Every value has a bootstrap interval, AUPRO's and the pixel metrics' from histograms (see `measure`).
    A metric that cannot be computed (no masks, one class only) has no row.

    Args:
        index: one row an image: image, category, defect, label.
        image_scores: [n], larger = more anomalous.
        maps: [n, h, w] float32.
        masks: [n, h, w] bool or a list of [h, w] bool; None for a good image or an image without mask. An
            anomalous image without a mask, or with an empty one, takes no part in pixel metrics.
        settings: limits, bins, resamples, seed.
        identity: method, seed, train_set, test_set.
        types: what the method says of defect types, where it knows them.
        type_words: then the words of each image's true type, empty for a good image.

    Raises:
        FlawlineError: lengths differ or a score is not finite.
    """
    labels = index["label"].to_numpy(dtype=np.int64)
    maps, scores = np.asarray(maps, dtype=np.float32), np.asarray(image_scores, dtype=np.float64)
    _check(index, scores, maps)
    whole = np.stack([np.zeros(maps.shape[1:], bool) if m is None else np.asarray(m, bool) for m in masks])
    outlined = whole.any(axis=(1, 2))
    use = (labels == 0) | outlined
    whole[labels == 0] = False
    edges = quantile_edges(maps[use], whole[use], settings.bins)
    histograms = pixel_histograms(maps, whole, use, edges)
    overlap, regions = region_histograms(maps, whole, use, edges)
    images = Images(
        categories=index["category"].to_numpy(dtype=str),
        defects=index["defect"].to_numpy(dtype=str),
        labels=labels, scores=scores, maps=maps, masks=whole, use=use,
        histograms=histograms, overlap=overlap, regions=regions,
    )  # fmt: skip
    told: dict[tuple[str, str, str], Measured] = {}
    if types is not None and type_words is not None:
        told = type_metrics(
            types, type_words, images.categories, images.defects, settings.bootstrap, settings.seed
        )
    metrics, pro = _tabulate(images, settings, identity, told)
    table = index[["image", "category", "defect", "label"]].reset_index(drop=True)
    table = table.assign(image_score=scores, map_max=maps.max(axis=(1, 2)), map_mean=maps.mean(axis=(1, 2)))
    if types is not None:
        shown = dict(zip([GOOD, *types.words], types.probabilities.T, strict=True))
        table = table.assign(named=types.named(), **{f"type: {name}": p for name, p in shown.items()})
    cases = pick_cases(table, _localisation(images), settings.overlays)
    curves = {"image_roc": _roc(images), "pro": pro, "pro_limit": settings.pro_limit}
    return CellResult(table, metrics, histograms, curves, cases, maps, whole, use)


def _check(index: pd.DataFrame, scores: np.ndarray, maps: np.ndarray) -> None:
    if not len(index) == len(scores) == len(maps):
        raise FlawlineError(
            f"{len(index)} images, {len(scores)} scores and {len(maps)} maps do not belong together",
            "run the features stage again",
        )
    if not len(index):
        raise FlawlineError("the test set has no image to evaluate", "add test images (flawline data check)")
    broken = ~np.isfinite(scores) | ~np.isfinite(maps).all(axis=(1, 2))
    if broken.any():
        name = index["image"].iloc[int(np.flatnonzero(broken)[0])]
        raise FlawlineError(
            f"the score or map of {name} is not a finite number", "tune this prompt set again"
        )


def _tabulate(
    images: Images,
    settings: EvaluateSettings,
    identity: Identity,
    told: dict[tuple[str, str, str], Measured],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    of_all: dict[str, list[Measured]] = {}

    def add(category: str, defect: str, found: dict[str, Measured]) -> None:
        for metric, one in found.items():
            low, high = interval(one.samples, settings.confidence)
            place = {"category": category, "defect": defect, "metric": metric}
            size = {"n_normal": one.n_normal, "n_anomalous": one.n_anomalous}
            rows.append({**identity, **place, "value": one.value, "ci_low": low, "ci_high": high, **size})

    def measured(members: np.ndarray) -> tuple[dict[str, Measured], Aupro | None]:
        return measure(images, members, settings.pro_limit, settings.bootstrap, settings.seed)

    for category in sorted(set(images.categories.tolist())):
        inside = images.categories == category
        found, curve = measured(np.flatnonzero(inside))
        add(category, "all", found)
        for metric, one in found.items():
            of_all.setdefault(metric, []).append(one)
        if curve is not None:
            fpr, pro = thin(curve.fpr, curve.pro)
            curves[category] = {"fpr": fpr, "pro": pro}
        for defect in sorted(set(images.defects[inside & (images.labels == 1)].tolist())):
            pair = inside & ((images.labels == 0) | (images.defects == defect))
            by_type, _ = measured(np.flatnonzero(pair))
            add(category, defect, {name: by_type[name] for name in TYPE_METRICS if name in by_type})
    add("mean", "all", {metric: macro(parts) for metric, parts in of_all.items()})
    for (category, defect, metric), one in sorted(told.items()):
        add(category, defect, {metric: one})
    return pd.DataFrame(rows, columns=list(COLUMNS)), curves


def _roc(images: Images) -> dict[str, Any]:
    curves = {}
    for category in sorted(set(images.categories.tolist())):
        rows = images.categories == category
        if len(set(images.labels[rows].tolist())) == 2:
            fpr, tpr = thin(*roc_points(images.labels[rows], images.scores[rows]))
            curves[category] = {"fpr": fpr, "tpr": tpr}
    return curves


def _localisation(images: Images) -> np.ndarray:
    """Pixel AUROC of each outlined image alone; 0.5 elsewhere."""
    result = np.full(len(images.labels), 0.5)
    for row in np.flatnonzero(images.masks.any(axis=(1, 2))):
        alone = pixel_metrics(rank_pixels(images.maps[row : row + 1], images.masks[row : row + 1]))
        result[row] = alone.get("pixel_auroc", 0.5)
    return result


def write_cell(
    result: CellResult,
    folder: Path,
    image_loader: Callable[[str], Image.Image],
    support: dict[str, list[str]] | None = None,
) -> None:
    """Write a cell's files; the folder is whole or absent.

    Args:
        result: from `evaluate_cell`.
        folder: `Workspace.evaluation(cell, test)`.
        image_loader: gives the picture of a path as it stands in the scores table.
        support: hashes of the good images that a few-shot method looked at, by category.
    """
    from safetensors.numpy import save_file

    scale = heat_scale(result.maps)
    with atomic_folder(folder) as partial:
        write_parquet(partial / "scores.parquet", result.scores)
        one = result.histograms
        save_file(
            {"normal": one.normal, "anomalous": one.anomalous, "edges": one.edges},
            partial / "histograms.safetensors",
        )
        write_metrics(partial / "metrics.csv", result.metrics)
        write_json(partial / "curves.json", result.curves)
        if support:
            write_json(partial / "support.json", support)
        (partial / "overlays").mkdir()
        notes = []
        for case in result.cases:
            row = result.scores.iloc[case.row]
            file = f"{case.kind}-{case.number}.png"
            mask = result.masks[case.row] if result.use[case.row] else None
            picture = overlay(image_loader(row["image"]), mask, result.maps[case.row], scale)
            picture.save(partial / "overlays" / file, optimize=True)
            place = {"file": file, "case": case.kind, "image": row["image"], "category": row["category"]}
            notes.append(
                place
                | {"defect": row["defect"], "label": int(row["label"]), "score": float(row["image_score"])}
            )
        write_json(partial / "overlays" / "index.json", notes)
