"""Pixel metrics of any number of images in constant memory.

An accumulator sees images once, in any order and in any batches; accumulators of several workers merge. A small
set's pixels are held as they are and its values are exact. Beyond that the pixels are counted in fine bins
(`fine_bins`): the values equal the exact ones but for scores that fall into one bin; the tests hold the difference to
1e-4, and `auroc_bound` tells when scores lie so that it may be larger.
"""

from dataclasses import dataclass

import numpy as np

from flawline.errors import FlawlineError
from flawline.evaluate.aupro import Aupro, aupro
from flawline.evaluate.aupro_200 import papers_area, papers_points, papers_thresholds
from flawline.evaluate.fine_bins import LIMIT, FineBins
from flawline.evaluate.order_keys import floor_float32, order_keys
from flawline.evaluate.pixel_metrics import pixel_metrics
from flawline.evaluate.ranking import PixelRanking, rank_scores, region_shares

# Pixels held as they are, and counted at once: a few dozen MiB.
EXACT = 1 << 20
_CHUNK = 1 << 21
# Scores looked at along each side of a map to tell ties from bins of different scores.
_PROBES = 64


@dataclass(frozen=True)
class _Pixels:
    """Some images' scores: of good pixels and of defective ones, these with their region shares; keys of some."""

    normal: np.ndarray
    anomalous: np.ndarray
    shares: np.ndarray
    probes: np.ndarray


class PixelAccumulator:
    """Pixels of any number of images, ready for every pixel metric.

    Attributes:
        images, regions, pixels: how many were seen.
        low, high: the smallest and the largest score, float32.
    """

    def __init__(self, limit: int = LIMIT, exact: int = EXACT) -> None:
        """`limit`: bins held at most, see `FineBins`; `exact`: up to so many pixels there are no bins."""
        self.limit, self.exact = limit, exact
        self.images = self.regions = self.pixels = 0
        self.low, self.high = np.float32(np.inf), np.float32(-np.inf)
        self._held: list[_Pixels] = []
        self.bins: FineBins | None = None
        self._sorted: dict[str, np.ndarray] | None = None

    def update(self, maps: np.ndarray, masks: np.ndarray) -> None:
        """Add images.

        Args:
            maps: [n, h, w] float32 anomaly maps, larger = more anomalous.
            masks: [n, h, w] bool, true on defects; all false for a good image.

        Raises:
            FlawlineError: a score is not a finite number.
        """
        maps = np.asarray(maps, dtype=np.float32)
        masks = np.asarray(masks, dtype=bool)
        if maps.shape != masks.shape or maps.ndim != 3:
            raise ValueError(f"maps {maps.shape} and masks {masks.shape} do not belong together")
        if not maps.size:
            return
        low, high = maps.min(), maps.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise FlawlineError(
                "an anomaly map holds a score that is not a finite number", "tune this prompt set again"
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.images += len(maps)
        self.pixels += maps.size
        several = max(1, _CHUNK // maps[0].size)
        for start in range(0, len(maps), several):
            self._take(maps[start : start + several], masks[start : start + several])
        self._settle()

    def _take(self, maps: np.ndarray, masks: np.ndarray) -> None:
        shares, regions = region_shares(masks)
        self.regions += regions
        step = max(1, min(maps.shape[1:]) // _PROBES)
        if self.bins is None and self.pixels <= self.exact:
            probes = order_keys(maps[:, ::step, ::step]).ravel()
            self._held.append(_Pixels(maps[~masks], maps[masks], shares, probes))
            return
        self._settle()
        keys = order_keys(maps)
        where = np.flatnonzero(masks) if regions else None
        self._fine().add(keys.ravel(), where, shares, keys[:, ::step, ::step].ravel())

    def _rising(self) -> dict[str, np.ndarray]:
        if self._sorted is None:
            self._sorted = self._fine().rising()
        return self._sorted

    def _fine(self) -> FineBins:
        """The bins, to be read or about to change."""
        self._sorted = None
        if self.bins is None:
            self.bins = FineBins(self.limit)
        return self.bins

    def _settle(self) -> None:
        """Count the held pixels in bins once they are too many."""
        if self.pixels > self.exact:
            self._count(self._held)
            self._held = []

    def _count(self, held: list[_Pixels]) -> None:
        for some in held:
            keys = order_keys(np.concatenate([some.anomalous, some.normal]))
            self._fine().add(keys, np.arange(len(some.anomalous)), some.shares, some.probes)

    def merge(self, other: "PixelAccumulator") -> "PixelAccumulator":
        """Add what another accumulator saw (it stays as it is); returns this one."""
        if (self.limit, self.exact) != (other.limit, other.exact):
            raise ValueError("accumulators of different sizes cannot be merged")
        self.images += other.images
        self.regions += other.regions
        self.pixels += other.pixels
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self._settle()
        if other.bins is not None:
            self._fine().merge(other.bins)
        elif self.bins is not None or self.pixels > self.exact:
            self._count(other._held)
        else:
            self._held = self._held + other._held
        return self

    def _sorted_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of the good and of the defective held pixels, and the shares of these."""
        empty = np.zeros(0, np.float32)
        return (
            np.concatenate([empty, *(some.normal for some in self._held)]),
            np.concatenate([empty, *(some.anomalous for some in self._held)]),
            np.concatenate([np.zeros(0), *(some.shares for some in self._held)]),
        )

    def ranking(self) -> PixelRanking | None:
        """Counts at every score or bin with defective pixels, from the top; None without both kinds of pixels."""
        if self.bins is None:
            return rank_scores(*self._sorted_out(), self.regions)
        bins = {name: values[::-1] for name, values in self._rising().items()}
        hits, alarms = np.cumsum(bins["anomalous"]), np.cumsum(bins["normal"])
        if not hits[-1] or not alarms[-1]:
            return None
        at = np.flatnonzero(bins["anomalous"])
        return PixelRanking(
            hits=hits[at],
            alarms=alarms[at],
            alarms_above=(alarms - bins["normal"])[at],
            coverage=np.minimum(np.cumsum(bins["overlap"])[at] / self.regions, 1.0),
            anomalous=int(hits[-1]),
            normal=int(alarms[-1]),
            regions=self.regions,
            spread=bins["high"][at] > bins["low"][at],
        )

    def aupro(self, limit: float = 0.3) -> Aupro | None:
        """AUPRO with its curve, see `flawline.evaluate.aupro`."""
        return aupro(self.ranking(), limit)

    def aupro_200(self, limit: float = 0.3) -> float | None:
        """The papers' AUPRO, see `flawline.evaluate.aupro_200`; None where it is not defined."""
        found = self.papers_curve()
        return None if found is None else papers_area(*found, limit)

    def papers_curve(self) -> tuple[np.ndarray, np.ndarray] | None:
        """False-positive rate and mean overlap at the papers' thresholds; None where one kind is missing."""
        thresholds = papers_thresholds(self.low, self.high)
        if self.bins is None:
            normal, anomalous, shares = self._sorted_out()
            if not normal.size or not anomalous.size:
                return None
            return papers_points(normal, anomalous, shares, self.regions, thresholds)
        bins = self._rising()
        good = bins["normal"].sum()
        if not good or not self.regions:
            return None
        keys = order_keys(floor_float32(thresholds)).astype(np.int64)
        first, width = bins["first"].astype(np.int64), 1 << self.bins.shift
        at = np.maximum(np.searchsorted(first, keys, side="right") - 1, 0)
        # How much of its own bin lies above a threshold; of a tie all or nothing.
        above = np.clip((first[at] + width - 1 - keys) / width, 0.0, 1.0)
        tie = bins["high"][at] <= bins["low"][at]
        above = np.where(tie, bins["high"][at] > keys, above)
        curves = []
        for name, total in (("normal", good), ("overlap", self.regions)):
            rest = np.concatenate([np.cumsum(bins[name][::-1])[::-1], [0]])
            curves.append((rest[at + 1] + above * bins[name][at]) / total)
        return curves[0], np.minimum(curves[1], 1.0)

    def metrics(self, limit: float = 0.3) -> dict[str, float]:
        """pixel_auroc, pixel_ap, pixel_f1_max, aupro and aupro_200; what is not defined is absent."""
        ranking = self.ranking()
        found: dict[str, float] = dict(pixel_metrics(ranking))
        curve, papers = aupro(ranking, limit), self.aupro_200(limit)
        if curve is not None:
            found["aupro"] = curve.value
        if papers is not None:
            found["aupro_200"] = papers
        return found

    def auroc_bound(self) -> float:
        """How far pixel AUROC may be from the exact one, from the pixels that share a bin with other scores.

        Of bins whose probed scores are all equal it takes that all their scores are.
        """
        if self.bins is None or not self.bins.shift:
            return 0.0
        bins = self._rising()
        bad, good = bins["anomalous"].sum(), bins["normal"].sum()
        mixed = bins["high"] > bins["low"]
        pairs = bins["anomalous"][mixed].astype(np.float64) @ bins["normal"][mixed].astype(np.float64)
        return float(pairs / (2.0 * bad * good)) if bad and good else 0.0
