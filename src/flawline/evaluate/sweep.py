"""All images of a test set, scored, counted and dropped a batch at a time.

What is kept of an image is a few numbers and, on disk, its histograms; what is kept of a category are its pixels'
fine bins. So memory does not grow with the number of images but for those few numbers.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from flawline.errors import FlawlineError
from flawline.evaluate.histograms import SpooledHistograms, quantile_edges
from flawline.evaluate.overlays import heat_scale
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import rank_pixels
from flawline.evaluate.scoring import Scored, Scorer
from flawline.evaluate.streaming import PixelAccumulator
from flawline.settings import EvaluateSettings

GOOD = "good"
#: masks of the images at some rows: [h, w] bool each, or None
MaskReader = Callable[[np.ndarray], list[np.ndarray | None]]
# Images looked at first, to place the histograms' edges: so many, or so many pixels.
_SAMPLE_IMAGES, _SAMPLE_PIXELS, _SAMPLE_LEAST = 256, 1 << 23, 16


class Sweep:
    """One pass over n images. Dimensions: K types, h pixels a side.

    Attributes:
        scores, map_max, map_mean: [n] float. types: [n, 1 + K] or None.
        use: [n] bool, images that take part in pixel metrics: good ones, and defective ones with a mask.
        localisation: [n] pixel AUROC of each outlined image alone, 0.5 elsewhere.
        sampled: [k] rows, rising, that were scored first; maps, masks: [k, h, h] of these.
        histograms: of the used images. scale: for pictures, see `heat_scale`.
    """

    def __init__(
        self,
        index: pd.DataFrame,
        score: Scorer,
        read_masks: MaskReader,
        settings: EvaluateSettings,
        folder: Path | None = None,
    ) -> None:
        """Score a sample, which places the edges of the histograms.

        Args:
            index: one row an image: image, category, defect, label.
            score: scores rows of the index.
            read_masks: their masks.
            settings: bins.
            folder: where temporary files lie; default the system's folder.

        Raises:
            FlawlineError: a score is not finite.
        """
        n = len(index)
        self.index, self._score, self._read_masks = index, score, read_masks
        self.batch = score.batch
        self.labels = index["label"].to_numpy(dtype=np.int64)
        self.defects = np.where(self.labels == 0, GOOD, index["defect"].to_numpy(dtype=str))
        self.categories = index["category"].to_numpy(dtype=str)
        self.scores = np.zeros(n)
        self.map_max, self.map_mean = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.types: np.ndarray | None = None
        self.use, self.localisation = np.zeros(n, dtype=bool), np.full(n, 0.5)
        self.sampled = self._sample()
        parts = [self.scored(rows) for rows in _split(self.sampled, score.batch)]
        self.maps = np.concatenate([maps for maps, _ in parts])
        self.masks = np.concatenate([masks for _, masks in parts])
        use = self.use[self.sampled]
        edges = quantile_edges(self.maps[use], self.masks[use], settings.bins)
        self.scale = heat_scale(self.maps)
        self.histograms = SpooledHistograms(n, edges, folder)

    def _sample(self) -> np.ndarray:
        """Rows, rising: all of a small set, else half good and half defective ones as far as there are, by hash."""
        count = max(_SAMPLE_LEAST, min(_SAMPLE_IMAGES, _SAMPLE_PIXELS // self._score.side**2))
        if len(self.index) <= count:
            return np.arange(len(self.index))
        names = [hashlib.sha256(str(name).encode()).hexdigest() for name in self.index["image"]]
        order = np.argsort(np.asarray(names), kind="stable")
        good, bad = (order[self.labels[order] == label] for label in (0, 1))
        many = min(len(bad), max(count // 2, count - len(good)))
        return np.sort(np.concatenate([good[: count - many], bad[:many]]))

    def category(self, name: str) -> "CategorySweep":
        """The images of one category, not yet counted."""
        return CategorySweep(self, np.flatnonzero(self.categories == name))

    def pictured(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Map and mask (None where it does not count) of a few images, scored again."""
        found: list[tuple[np.ndarray, np.ndarray | None]] = []
        for part in _split(rows, self._score.batch):
            maps, masks = self._score(part).maps, self._masks_of(part)
            found += [
                (one, mask if self.use[row] else None)
                for row, one, mask in zip(part, maps, masks, strict=True)
            ]
        return found

    def scored(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps and masks [b, h, h] of some rows, whose numbers are noted."""
        scored, masks = self._score(rows), self._masks_of(rows)
        self._check(rows, scored)
        maps = np.asarray(scored.maps, dtype=np.float32)
        self.scores[rows] = scored.image
        self.map_max[rows], self.map_mean[rows] = maps.max(axis=(1, 2)), maps.mean(axis=(1, 2))
        if scored.types is not None:
            if self.types is None:
                self.types = np.zeros((len(self.index), scored.types.shape[1]))
            self.types[rows] = scored.types
        self.use[rows] = (self.labels[rows] == 0) | masks.any(axis=(1, 2))
        return maps, masks

    def _masks_of(self, rows: np.ndarray) -> np.ndarray:
        side = self._score.side
        masks = np.zeros((len(rows), side, side), dtype=bool)
        for place, (row, mask) in enumerate(zip(rows, self._read_masks(rows), strict=True)):
            if mask is not None and self.labels[row] == 1:
                masks[place] = mask
        return masks

    def _check(self, rows: np.ndarray, scored: Scored) -> None:
        broken = ~np.isfinite(scored.image) | ~np.isfinite(scored.maps).all(axis=(1, 2))
        if broken.any():
            name = self.index["image"].iloc[int(rows[np.flatnonzero(broken)[0]])]
            raise FlawlineError(
                f"the score or map of {name} is not a finite number", "tune this prompt set again"
            )


class CategorySweep:
    """The images of one category, counted batch by batch.

    Attributes:
        pixels: of the images counted so far, by defect type (`good` for good images).
    """

    def __init__(self, sweep: Sweep, rows: np.ndarray) -> None:
        self._sweep, self._rows = sweep, rows
        self.pixels: dict[str, PixelAccumulator] = {}

    def batches(self) -> Iterator[int]:
        """Count everything; yields the number of images of each batch."""
        sweep = self._sweep
        sampled = np.isin(self._rows, sweep.sampled)
        for rows in _split(self._rows[sampled], sweep.batch):
            at = np.searchsorted(sweep.sampled, rows)
            self._count(rows, sweep.maps[at], sweep.masks[at])
            yield len(rows)
        for rows in _split(self._rows[~sampled], sweep.batch):
            self._count(rows, *sweep.scored(rows))
            yield len(rows)

    def _count(self, rows: np.ndarray, maps: np.ndarray, masks: np.ndarray) -> None:
        sweep = self._sweep
        use = sweep.use[rows]
        sweep.histograms.count(rows, maps, masks, use)
        for defect in sorted(set(sweep.defects[rows[use]].tolist())):
            own = use & (sweep.defects[rows] == defect)
            self.pixels.setdefault(defect, PixelAccumulator()).update(maps[own], masks[own])
        for place in np.flatnonzero(masks.any(axis=(1, 2))):
            alone = pixel_metrics(rank_pixels(maps[place : place + 1], masks[place : place + 1]))
            sweep.localisation[rows[place]] = alone.get("pixel_auroc", 0.5)


def _split(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
