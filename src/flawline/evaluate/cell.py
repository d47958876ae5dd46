"""One cell of the matrix: one prompt set on one test set, measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flawline.errors import FlawlineError
from flawline.evaluate.aupro import Aupro, thin
from flawline.evaluate.cases import pick_cases
from flawline.evaluate.cell_files import CellResult, Identity, write_cell
from flawline.evaluate.cell_groups import ALL, measure_groups, tabulate
from flawline.evaluate.confusion import confusion
from flawline.evaluate.context import Context, contextual_metrics, novelty_metrics
from flawline.evaluate.image_metrics import roc_points
from flawline.evaluate.measure import Images, Measured
from flawline.evaluate.scoring import HeldScores, Scorer
from flawline.evaluate.sweep import GOOD, MaskReader, Sweep
from flawline.evaluate.types import TypeScores
from flawline.settings import EvaluateSettings

__all__ = ["CellResult", "Identity", "evaluate_cell", "evaluate_stream", "write_cell"]


def evaluate_cell(
    index: pd.DataFrame,
    image_scores: np.ndarray,
    maps: np.ndarray,
    masks: list[np.ndarray | None] | np.ndarray,
    settings: EvaluateSettings,
    identity: Identity,
) -> CellResult:
    """`evaluate_stream` of scores and maps that are in memory already.

    Args:
        index: one row an image: image, category, defect, label.
        image_scores: [n], larger = more anomalous.
        maps: [n, h, h] float32.
        masks: [n, h, h] bool or a list of [h, h] bool; None for a good image or an image without mask.
        settings, identity: as for `evaluate_stream`.

    Raises:
        FlawlineError: lengths differ or a score is not finite.
    """
    if not len(index) == len(image_scores) == len(maps):
        raise FlawlineError(
            f"{len(index)} images, {len(image_scores)} scores and {len(maps)} maps do not belong together",
            "run the features stage again",
        )
    held = HeldScores(image_scores, maps)
    return evaluate_stream(index, held, lambda rows: [masks[row] for row in rows], settings, identity)


def evaluate_stream(
    index: pd.DataFrame,
    score: Scorer,
    read_masks: MaskReader,
    settings: EvaluateSettings,
    identity: Identity,
    context: Context | None = None,
    asked: list[str] | None = None,
    folder: Path | None = None,
) -> CellResult:
    """Measure one prompt set on one test set, a batch of images at a time.

    Every value has a bootstrap interval, AUPRO's and the pixel metrics' from histograms (see `measure`). A metric
    that cannot be computed (no masks, one class only) has no row; the reason is kept.

    Args:
        index: one row an image: image, category, defect, label.
        score: scores rows of the index.
        read_masks: masks of rows; None for a good image or an image without mask. An anomalous image without a
            mask, or with an empty one, takes no part in pixel metrics.
        settings: limits, bins, resamples, seed.
        identity: method, seed, train_set, test_set.
        context: threshold, types, groups and hashes of the cell; None: nothing that needs them is computed.
        asked: the types in words that the scorer tells apart.
        folder: where temporary files lie; default the system's folder.

    Raises:
        FlawlineError: there is no image, or a score is not finite.
    """
    if not len(index):
        raise FlawlineError("the test set has no image to evaluate", "add test images (flawline data check)")
    index = index.reset_index(drop=True)
    sweep = Sweep(index, score, read_masks, settings, folder)
    images = Images(
        categories=sweep.categories,
        defects=index["defect"].to_numpy(dtype=str),
        labels=sweep.labels,
        scores=sweep.scores,
        use=sweep.use,
        histograms=sweep.histograms,
        groups=None if context is None else context.groups,
    )
    groups, absences = measure_groups(sweep, images, settings)
    types = None if sweep.types is None or not asked else TypeScores(asked, sweep.types)
    more: dict[tuple[str, str, str], Measured] = {}
    if context is not None:
        more.update(contextual_metrics(context, index, sweep.scores, types, settings))
        by_type = {key: one.found for key, one in groups.items() if key[1] != ALL}
        more.update(novelty_metrics(context, by_type))
    table = index[["image", "category", "defect", "label"]]
    table = table.assign(image_score=sweep.scores, map_max=sweep.map_max, map_mean=sweep.map_mean)
    confused = None
    if types is not None:
        shown = dict(zip([GOOD, *types.words], types.probabilities.T, strict=True))
        table = table.assign(named=types.named(), **{f"type: {name}": p for name, p in shown.items()})
        if context is not None:
            place = context.words, sweep.categories, sweep.scores
            confused = confusion(types, *place, context.threshold)
    cases = pick_cases(table, sweep.localisation, settings.overlays)
    pro = {
        category: _drawn(one.curve)
        for (category, defect), one in groups.items()
        if one.curve and defect == ALL
    }
    return CellResult(
        scores=table,
        metrics=tabulate(groups, more, identity, settings.confidence),
        absent=absences.record(index, sweep.use),
        spooled=sweep.histograms,
        curves={"image_roc": _roc(images), "pro": pro, "pro_limit": settings.pro_limit},
        cases=cases,
        pictured=sweep.pictured(np.asarray([case.row for case in cases], dtype=np.int64)),
        scale=sweep.scale,
        use=sweep.use,
        confusion=confused,
        provenance=None if context is None else dict(context.provenance),
    )


def _drawn(curve: Aupro) -> dict[str, list[float]]:
    fpr, pro = thin(curve.fpr, curve.pro)
    return {"fpr": fpr, "pro": pro}


def _roc(images: Images) -> dict[str, Any]:
    curves = {}
    for category in sorted(set(images.categories.tolist())):
        rows = images.categories == category
        if len(set(images.labels[rows].tolist())) == 2:
            fpr, tpr = thin(*roc_points(images.labels[rows], images.scores[rows]))
            curves[category] = {"fpr": fpr, "tpr": tpr}
    return curves
