"""Every metric of one group of images with its bootstrap values: the pieces a cell's table is made of."""

from dataclasses import dataclass

import numpy as np

from flawline.evaluate.aupro import Aupro, aupro
from flawline.evaluate.bootstrap import resample, strata_of
from flawline.evaluate.histograms import PixelHistograms
from flawline.evaluate.image_metrics import image_metrics
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.weighted import weighted_aupro, weighted_image_metrics, weighted_pixel_metrics


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
        maps: [n, h, w] float32 anomaly maps.
        masks: [n, h, w] bool.
        use: [n] bool, images that take part in pixel metrics.
        histograms: of the maps.
        overlap, regions: [n, bins] and [n], from `region_histograms`.
    """

    categories: np.ndarray
    defects: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    maps: np.ndarray
    masks: np.ndarray
    use: np.ndarray
    histograms: PixelHistograms
    overlap: np.ndarray
    regions: np.ndarray


def measure(
    images: Images, rows: np.ndarray, limit: float, samples: int, seed: int
) -> tuple[dict[str, Measured], Aupro | None]:
    """Everything that can be computed for the images `rows` (indices), and the per-region curve.

    Image metrics and their bootstrap values are exact. The bootstrap values of pixel metrics and AUPRO come
    from histograms; they are shifted by (exact - binned value), so that the interval belongs to the exact
    value. The resampling is by category and label.
    """
    labels = images.labels[rows]
    weights = resample(strata_of(images.categories[rows], labels), samples, seed)
    counts = (int(np.sum(labels == 0)), int(np.sum(labels == 1)))
    found = {}
    exact = image_metrics(labels, images.scores[rows])
    if exact:
        drawn = weighted_image_metrics(labels, images.scores[rows], weights)
        found.update({name: Measured(value, drawn[name], *counts) for name, value in exact.items()})
    pixels, curve = _measure_pixels(images, rows[images.use[rows]], limit, samples, seed)
    return found | pixels, curve


def _measure_pixels(
    images: Images, rows: np.ndarray, limit: float, samples: int, seed: int
) -> tuple[dict[str, Measured], Aupro | None]:
    ranking = rank_pixels(images.maps[rows], images.masks[rows])
    curve = aupro(ranking, limit)
    if curve is None:
        return {}, None
    labels = images.labels[rows]
    weights = resample(strata_of(images.categories[rows], labels), samples, seed)
    # The first row counts every image once: its value is what binning alone makes of the exact one.
    weights = np.concatenate([np.ones((1, len(rows)), dtype=weights.dtype), weights])
    histograms = images.histograms.rows(rows)
    drawn = weighted_pixel_metrics(histograms, weights)
    drawn["aupro"] = weighted_aupro(histograms, images.overlap[rows], images.regions[rows], weights, limit)
    counts = (int(np.sum(labels == 0)), int(np.sum(labels == 1)))
    exact = pixel_metrics(ranking) | {"aupro": curve.value}
    return {
        name: Measured(value, np.clip(drawn[name][1:] + (value - drawn[name][0]), 0, 1), *counts)
        for name, value in exact.items()
    }, curve


def macro(parts: list[Measured]) -> Measured:
    """The unweighted mean over categories, resample by resample."""
    return Measured(
        value=float(np.mean([part.value for part in parts])),
        samples=np.mean([part.samples for part in parts], axis=0),
        n_normal=sum(part.n_normal for part in parts),
        n_anomalous=sum(part.n_anomalous for part in parts),
    )
