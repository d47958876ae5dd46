"""Every metric of one group of images with its bootstrap values: the pieces a cell's table is made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from flawline.evaluate.aupro import Aupro, aupro
from flawline.evaluate.aupro_200 import papers_area, papers_thresholds
from flawline.evaluate.bootstrap import strata_of
from flawline.evaluate.draws import weight_blocks
from flawline.evaluate.histograms import SpooledHistograms
from flawline.evaluate.image_metrics import IMAGE_METRICS, image_metrics
from flawline.evaluate.pixel_metrics import PIXEL_METRICS, pixel_metrics
from flawline.evaluate.streaming import PixelAccumulator
from flawline.evaluate.weighted import (
    aupro_200_of,
    aupro_of,
    pixel_metrics_of,
    spooled_sums,
    weighted_image_metrics,
)
from flawline.settings import EvaluateSettings

#: metrics that need masks
MASK_METRICS = (*PIXEL_METRICS, "aupro", "aupro_200")
NO_GOOD, NO_DEFECTIVE = "there are no good images", "there are no defective images"
NO_MASK = "no defective image has a mask"
NO_GOOD_PIXEL = "the masks leave no good pixel"
ONE_SCORE = "all pixels have the same score"
_PIXEL_CELLS = 1 << 19


@dataclass(frozen=True)
class Measured:
    """One metric of one group: exact value, its bootstrap values [B], and the images it rests on."""

    value: float
    samples: np.ndarray
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Images:
    """What is known of n images, row by row.

    Attributes:
        categories, defects: [n] str.
        labels: [n] int 0/1.
        scores: [n] float64 image scores.
        use: [n] bool, images that take part in pixel metrics.
        histograms: of the maps of those, on disk.
        groups: [n] names of groups that are drawn as a whole, or None.
    """

    categories: np.ndarray
    defects: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    use: np.ndarray
    histograms: SpooledHistograms
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Measurement:
    """Of one group of images: metrics found, reasons of those that are absent, and the per-region curve."""

    found: dict[str, Measured]
    absent: dict[str, str] = field(default_factory=dict)
    curve: Aupro | None = None


def measure(
    images: Images, rows: np.ndarray, pixels: PixelAccumulator, settings: EvaluateSettings
) -> Measurement:
    """Everything that can be computed for the images `rows` (indices).

    Image metrics and their bootstrap values are exact. The bootstrap values of pixel metrics and AUPRO come
    from histograms; they are shifted by (value - binned value), so that the interval belongs to the value.
    The resampling is by category and label, and by groups where there are some.

    Args:
        images: of the whole test set.
        rows: [k].
        pixels: the pixels of those of the rows that take part in pixel metrics.
        settings: limit, resamples, seed.
    """
    labels = images.labels[rows]
    missing = NO_DEFECTIVE if not np.any(labels == 1) else NO_GOOD if not np.any(labels == 0) else ""
    if missing:
        of_images = Measurement({}, dict.fromkeys(IMAGE_METRICS, missing))
    else:
        of_images = _measure_images(images, rows, settings)
    used = rows[images.use[rows]]
    if not np.any(labels == 1) or not np.any(images.labels[used] == 1):
        reason = NO_DEFECTIVE if not np.any(labels == 1) else NO_MASK
        of_pixels = Measurement({}, dict.fromkeys(MASK_METRICS, reason))
    else:
        of_pixels = _measure_pixels(images, used, pixels, settings)
    return Measurement(
        of_images.found | of_pixels.found, of_images.absent | of_pixels.absent, of_pixels.curve
    )


def _measure_images(images: Images, rows: np.ndarray, settings: EvaluateSettings) -> Measurement:
    labels, scores = images.labels[rows], images.scores[rows]
    drawn = _joined(
        weighted_image_metrics(labels, scores, weights)
        for weights in weight_blocks(*_draw(images, rows, settings))
    )
    exact = image_metrics(labels, scores)
    return Measurement(
        {name: Measured(value, drawn[name], *_counts(labels)) for name, value in exact.items()}
    )


def _measure_pixels(
    images: Images, rows: np.ndarray, pixels: PixelAccumulator, settings: EvaluateSettings
) -> Measurement:
    ranking = pixels.ranking()
    curve = aupro(ranking, settings.pro_limit)
    if ranking is None or curve is None:
        return Measurement({}, dict.fromkeys(MASK_METRICS, NO_GOOD_PIXEL))
    held, limit = images.histograms, settings.pro_limit
    thresholds = papers_thresholds(pixels.low, pixels.high)

    def binned(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = spooled_sums(held, rows, weights)
        papers = aupro_200_of(sums, held.edges, thresholds, limit)
        return {**pixel_metrics_of(sums), "aupro": aupro_of(sums, limit), "aupro_200": papers}

    # Every image once: what binning alone makes of the value.
    plain = binned(np.ones((1, len(rows)), dtype=np.int32))
    drawn = _joined(
        binned(weights) for weights in weight_blocks(*_draw(images, rows, settings), cells=_PIXEL_CELLS)
    )
    values: dict[str, float] = {**pixel_metrics(ranking), "aupro": curve.value}
    points, absent = pixels.papers_curve(), {}
    papers = None if points is None else papers_area(*points, limit)
    if papers is not None:
        values["aupro_200"] = papers
    else:
        few = f"fewer than two of the 200 thresholds have a false-positive rate below {limit:g}"
        absent["aupro_200"] = few if pixels.high > pixels.low else ONE_SCORE
    found = {
        name: Measured(
            value, np.clip(drawn[name] + (value - plain[name][0]), 0, 1), *_counts(images.labels[rows])
        )
        for name, value in values.items()
    }
    return Measurement(found, absent, curve)


def _draw(
    images: Images, rows: np.ndarray, settings: EvaluateSettings
) -> tuple[np.ndarray, int, int, np.ndarray | None]:
    own = None if images.groups is None else images.groups[rows]
    return (
        strata_of(images.categories[rows], images.labels[rows]),
        settings.bootstrap,
        settings.seed,
        own,
    )


def _joined(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    blocks = list(parts)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _counts(labels: np.ndarray) -> tuple[int, int]:
    return int(np.sum(labels == 0)), int(np.sum(labels == 1))


def macro(parts: list[Measured]) -> Measured:
    """The unweighted mean over categories, resample by resample."""
    return Measured(
        value=float(np.mean([part.value for part in parts])),
        samples=np.mean([part.samples for part in parts], axis=0),
        n_normal=sum(part.n_normal for part in parts),
        n_anomalous=sum(part.n_anomalous for part in parts),
    )
