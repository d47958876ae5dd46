"""Pixel histograms: a few numbers an image that stand for all its pixels.

Pixel metrics of any weighting of the images follow from weighted sums of these histograms, so thousands of
bootstrap resamples cost one matrix product. Within a bin, scores count as tied; with edges at quantiles the
error is far below the width of any interval (the tests hold it to 0.002). The histograms of a whole test set wait on
disk (`SpooledHistograms`); they are read in parts.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flawline.evaluate.ranking import region_share
from flawline.evaluate.spool import RowSpool


@dataclass(frozen=True)
class PixelHistograms:
    """Pixel counts of n images over shared bins.

    Attributes:
        normal: [n, bins] int32, pixels outside defects.
        anomalous: [n, bins] int32, pixels on defects. Rows of images that pixel metrics leave out are zero
            in both.
        edges: [bins + 1] float32, rising; scores outside count in the outermost bins.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    edges: np.ndarray

    def rows(self, which: np.ndarray) -> "PixelHistograms":
        """The histograms of some images; `which` is a mask or an index array."""
        return PixelHistograms(self.normal[which], self.anomalous[which], self.edges)

    @property
    def used(self) -> np.ndarray:
        """[n] bool: the images that take part in pixel metrics."""
        return (self.normal.sum(1) + self.anomalous.sum(1)) > 0


def quantile_edges(maps: np.ndarray, masks: np.ndarray, bins: int) -> np.ndarray:
    """Edges that resolve both kinds of pixels: half at quantiles of the good ones, half of the defective.

    Args:
        maps: [n, h, w] float32.
        masks: [n, h, w] bool.
        bins: how many bins; heavily tied scores may need fewer.

    Returns:
        [at most bins + 1] float32, strictly rising, at least 2 edges.
    """
    maps = np.asarray(maps, dtype=np.float32)
    if not maps.size:
        return np.asarray([0.0, 1.0], dtype=np.float32)
    low, high = maps.min(), maps.max()
    anomalous, normal = maps[masks], maps[~masks]
    inner = bins - 1
    share = inner // 2 if anomalous.size and normal.size else inner * bool(anomalous.size)
    ends = np.asarray([low, high])
    parts = [_quantiles(anomalous, share), _quantiles(normal, inner - share), ends]
    edges = np.unique(np.concatenate(parts).astype(np.float32))
    return edges if len(edges) > 1 else np.asarray([low, np.nextafter(low, np.float32(np.inf))], np.float32)


def _quantiles(values: np.ndarray, count: int) -> np.ndarray:
    # Existing scores, never interpolated ones: an edge then separates what it should.
    if not count:
        return values[:0]
    return np.asarray(np.quantile(values, np.linspace(0, 1, count + 2)[1:-1], method="higher"))


def pixel_histograms(
    maps: np.ndarray, masks: np.ndarray, use: np.ndarray, edges: np.ndarray
) -> PixelHistograms:
    """Count the pixels of each image.

    Args:
        maps: [n, h, w] float32.
        masks: [n, h, w] bool.
        use: [n] bool, images that take part in pixel metrics; others get zero rows.
        edges: [bins + 1] float32, rising.
    """
    bins = len(edges) - 1
    normal = np.zeros((len(maps), bins), dtype=np.int32)
    anomalous = np.zeros_like(normal)
    for row in np.flatnonzero(use):
        where = _bin_of(maps[row], edges)
        anomalous[row] = np.bincount(where[masks[row]], minlength=bins)
        normal[row] = np.bincount(where[~masks[row]], minlength=bins)
    return PixelHistograms(normal, anomalous, np.asarray(edges, dtype=np.float32))


def region_histograms(
    maps: np.ndarray, masks: np.ndarray, use: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each bin adds to the overlap of an image's regions, for AUPRO under weights.

    Returns:
        [n, bins] float64, sums over the image's regions of the part of the region in the bin; and [n] int64,
        the number of regions.
    """
    bins = len(edges) - 1
    overlap, regions = np.zeros((len(maps), bins)), np.zeros(len(maps), dtype=np.int64)
    for row in np.flatnonzero(use):
        if masks[row].any():
            share, regions[row] = region_share(masks[row])
            where = _bin_of(maps[row][masks[row]], edges)
            overlap[row] = np.bincount(where, weights=share[masks[row]], minlength=bins)
    return overlap, regions


def _bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges[1:-1], values, side="right")


class SpooledHistograms:
    """Histograms of n images on disk: `normal` and `anomalous` int32, `overlap` float64, each [n, bins].

    `overlap` holds what each bin adds to the overlap of the image's regions, see `region_histograms`.
    """

    def __init__(self, images: int, edges: np.ndarray, folder: Path | None = None) -> None:
        """`edges`: [bins + 1], shared by all images; `folder`: where the temporary files lie."""
        bins = len(edges) - 1
        self.edges = np.asarray(edges, dtype=np.float32)
        self.normal, self.anomalous = (RowSpool(images, bins, np.int32, folder) for _ in range(2))
        self.overlap = RowSpool(images, bins, np.float64, folder)
        self.regions = np.zeros(images, dtype=np.int64)

    def count(self, rows: np.ndarray, maps: np.ndarray, masks: np.ndarray, use: np.ndarray) -> None:
        """Count some images: rows [k], maps and masks [k, h, w], use [k] (others keep zero rows)."""
        rows, maps, masks = rows[use], maps[use], masks[use]
        every = np.ones(len(rows), dtype=bool)
        counted = pixel_histograms(maps, masks, every, self.edges)
        self.normal.write(rows, counted.normal)
        bad = masks.any(axis=(1, 2))
        self.anomalous.write(rows[bad], counted.anomalous[bad])
        overlap, regions = region_histograms(maps[bad], masks[bad], every[bad], self.edges)
        self.overlap.write(rows[bad], overlap)
        self.regions[rows[bad]] = regions

    def load(self) -> PixelHistograms:
        """All of them in memory."""
        every = np.arange(self.normal.shape[0])
        return PixelHistograms(self.normal.read(every), self.anomalous.read(every), self.edges)

    def save(self, path: Path) -> None:
        """Write `normal`, `anomalous` and `edges` as a safetensors file, row by row.

        The library's writer wants all tensors in memory; the format is a length, a JSON header and the bytes.
        """
        tensors: dict[str, RowSpool | np.ndarray] = {
            "edges": self.edges,
            "anomalous": self.anomalous,
            "normal": self.normal,
        }
        header: dict[str, object] = {}
        end = 0
        for name, tensor in tensors.items():
            size = int(np.prod(tensor.shape)) * tensor.dtype.itemsize
            kind = {"int32": "I32", "float32": "F32"}[tensor.dtype.name]
            header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.write(self.edges.tobytes())
            self.anomalous.copy_to(stream)
            self.normal.copy_to(stream)
