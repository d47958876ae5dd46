"""Image metrics of any number of images in constant memory."""

import numpy as np
from numpy.typing import ArrayLike

from flawline.errors import FlawlineError
from flawline.evaluate.order_keys import wide_keys


class ImageAccumulator:
    """Image scores of any number of images: exact up to `limit` different scores, then in joined neighbours."""

    def __init__(self, limit: int = 1 << 16) -> None:
        """`limit`: different scores held at most (24 bytes each)."""
        self.limit = limit
        self.shift = 0
        self.keys = np.zeros(0, dtype=np.uint64)
        self.counts = np.zeros((2, 0), dtype=np.int64)

    def update(self, labels: ArrayLike, scores: ArrayLike) -> None:
        """Add images: labels [n] 0 (good) or 1, scores [n] finite, larger = more anomalous."""
        truth, values = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
        if not np.isfinite(values).all():
            raise FlawlineError("an image score is no finite number", "tune again")
        self._take(wide_keys(values) >> np.uint64(self.shift), np.stack([~truth, truth]).astype(np.int64))

    def merge(self, other: "ImageAccumulator") -> "ImageAccumulator":
        """Add what another accumulator saw (it stays as it is); returns this one."""
        shift = max(self.shift, other.shift)
        self.keys >>= np.uint64(shift - self.shift)
        self.shift = shift
        self._take(other.keys >> np.uint64(shift - other.shift), other.counts)
        return self

    def _take(self, keys: np.ndarray, counts: np.ndarray) -> None:
        keys, counts = np.concatenate([self.keys, keys]), np.concatenate([self.counts, counts], axis=1)
        while len(held := np.unique(keys)) > self.limit:
            keys >>= np.uint64(1)
            self.shift += 1
        places = np.searchsorted(held, keys)
        self.keys = held
        self.counts = np.stack(
            [np.bincount(places, weights=row, minlength=len(held)).astype(np.int64) for row in counts]
        )

    def metrics(self) -> dict[str, float]:
        """image_auroc, image_ap and image_f1_max; empty where only one class was seen."""
        good, bad = self.counts[:, ::-1]
        hits, alarms = np.cumsum(bad), np.cumsum(good)
        if not len(hits) or not hits[-1] or not alarms[-1]:
            return {}
        outranked = 2 * alarms[-1] - 2 * alarms + good
        return {
            "image_auroc": int(np.sum(bad * outranked)) / (2 * int(hits[-1]) * int(alarms[-1])),
            "image_ap": float(np.sum(bad * hits / (hits + alarms)) / hits[-1]),
            "image_f1_max": float(np.max(2 * hits / (hits[-1] + hits + alarms))),
        }
