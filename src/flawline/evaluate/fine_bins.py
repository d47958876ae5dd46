"""Pixel counts over fine bins of the score: bounded in size, mergeable, and blind to the order of what came in.

A score's key (`order_keys`) is cut into a page (its upper 16 bits) and a place within the page. Only pages that occur
are held. While pages times places fit into the limit, every float32 is a bin of its own and nothing is lost; when a
new page does not fit, neighbouring bins are joined two by two everywhere. How often that happened (`shift`) depends
on the set of pages alone, so the bins after any order of additions and merges are the same.

Scores concentrated in a narrow range occupy few pages and are held at full resolution; scores spread over 0..1
occupy thousands of pages and keep thousands of bins an octave.
"""

import numpy as np

PAGE_BITS = 16
PAGES = 1 << (32 - PAGE_BITS)
LIMIT = 1 << 18
# Keys looked up at once: what they pass through stays in the processor's cache.
_BLOCK = 1 << 15


class FineBins:
    """Counts of good and defective pixels, and the region shares of the defective ones, by score.

    Attributes:
        shift: bits of the key that are not told apart.
        normal, anomalous: int64 [pages, places] pixel counts. overlap: float64, sums of region shares.
        low, high: uint32, the smallest and the largest probed key of a bin; a bin in which they agree is a tie.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """`limit`: at most so many bins, a power of two of at least 65,536 (36 bytes each)."""
        if limit < PAGES:
            raise ValueError(f"fine bins need a limit of at least {PAGES}, got {limit}")
        self.limit = limit
        self.shift = 0
        self.pages = np.zeros(0, dtype=np.int64)
        self._slot = np.full(PAGES, -1, dtype=np.int64)
        self.normal, self.anomalous = (np.zeros((0, 1 << PAGE_BITS), dtype=np.int64) for _ in range(2))
        self.overlap = np.zeros((0, 1 << PAGE_BITS))
        self.low = np.zeros((0, 1 << PAGE_BITS), dtype=np.uint32)
        self.high = self.low.copy()

    def add(
        self, keys: np.ndarray, defective: np.ndarray | None, shares: np.ndarray, probes: np.ndarray
    ) -> None:
        """Count pixels.

        Args:
            keys: uint32 [n], of `order_keys`.
            defective: indices of the pixels on defects, or None.
            shares: float64, the region share of each of them.
            probes: uint32, keys of some of the pixels, which tell ties from bins of different scores.
        """
        index = self._index(keys)
        if index.min() < 0:
            new, before = np.flatnonzero(index < 0), self.shift
            self._hold(np.flatnonzero(np.bincount(keys[new] >> np.uint32(PAGE_BITS), minlength=PAGES)))
            if self.shift == before:
                index[new] = self._index(keys[new])
            else:
                index = self._index(keys)
        size, shape = self.normal.size, self.normal.shape
        counts = np.bincount(index, minlength=size).reshape(shape)
        if defective is not None and len(defective):
            where = index[defective]
            on_defects = np.bincount(where, minlength=size).reshape(shape)
            counts -= on_defects
            self.anomalous += on_defects
            self.overlap += np.bincount(where, weights=shares, minlength=size).reshape(shape)
        self.normal += counts
        at = self._index(probes)
        np.minimum.at(self.low.reshape(-1), at, probes)
        np.maximum.at(self.high.reshape(-1), at, probes)

    def _index(self, keys: np.ndarray) -> np.ndarray:
        """int64 [n] the bin of each key; negative where its page is not held."""
        index = np.empty(len(keys), dtype=np.int64)
        starts = self._slot << (PAGE_BITS - self.shift)
        mask, shift = np.uint32((1 << PAGE_BITS) - 1), np.uint32(self.shift)
        for at in range(0, len(keys), _BLOCK):
            part = keys[at : at + _BLOCK]
            found = np.take(starts, part >> np.uint32(PAGE_BITS), mode="clip")
            np.add(found, (part & mask) >> shift, out=index[at : at + _BLOCK])
        return index

    def merge(self, other: "FineBins") -> None:
        """Add another's counts; the other stays as it is."""
        if other.limit != self.limit:
            raise ValueError(f"bins with limits {self.limit} and {other.limit} cannot be merged")
        self._hold(other.pages, other.shift)
        more = self.shift - other.shift
        at = self._slot[other.pages]
        self.normal[at] += _joined(other.normal, more, np.add)
        self.anomalous[at] += _joined(other.anomalous, more, np.add)
        self.overlap[at] += _joined(other.overlap, more, np.add)
        self.low[at] = np.minimum(self.low[at], _joined(other.low, more, np.minimum))
        self.high[at] = np.maximum(self.high[at], _joined(other.high, more, np.maximum))

    def _hold(self, pages: np.ndarray, shift: int = 0) -> None:
        """Make room for pages, joining bins until all fit."""
        new = pages[self._slot[pages] < 0]
        count = len(self.pages) + len(new)
        wanted = max(self.shift, shift)
        while count << (PAGE_BITS - wanted) > self.limit:
            wanted += 1
        more, self.shift = wanted - self.shift, wanted
        room = (len(new), 1 << (PAGE_BITS - wanted))
        for name, join, start in (
            ("normal", np.add, 0),
            ("anomalous", np.add, 0),
            ("overlap", np.add, 0),
            ("low", np.minimum, np.iinfo(np.uint32).max),
            ("high", np.maximum, 0),
        ):
            held = _joined(getattr(self, name), more, join)
            setattr(
                self, name, np.concatenate([held, np.full(room, start, held.dtype)]) if len(new) else held
            )
        self._slot[new] = np.arange(len(self.pages), count)
        self.pages = np.concatenate([self.pages, new])

    def rising(self) -> dict[str, np.ndarray]:
        """The occupied bins, lowest score first.

        Returns:
            `first` uint32, the smallest key that falls into the bin; `normal`, `anomalous`, `overlap`; `low` and
            `high`, its smallest and largest probed key: low < high where it is known to hold different scores.
        """
        order = np.argsort(self.pages)
        starts = self.pages[order].astype(np.uint64)[:, None] << np.uint64(PAGE_BITS)
        places = np.arange(self.normal.shape[1], dtype=np.uint64) << np.uint64(self.shift)
        flat = {
            name: getattr(self, name)[order].ravel()
            for name in ("normal", "anomalous", "overlap", "low", "high")
        }
        flat["first"] = (starts + places).astype(np.uint32).ravel()
        full = (flat["normal"] + flat["anomalous"]) > 0
        return {name: values[full] for name, values in flat.items()}


def _joined(values: np.ndarray, times: int, join: np.ufunc) -> np.ndarray:
    """[pages, places] with 2**times neighbouring places joined."""
    if not times:
        return values
    pages, places = values.shape
    joined: np.ndarray = join.reduce(values.reshape(pages, places >> times, 1 << times), axis=2)
    return joined
