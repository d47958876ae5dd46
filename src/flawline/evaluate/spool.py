"""Rows of numbers that wait on disk: what is kept of each image must not grow the memory."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

_BLOCK = 256


class RowSpool:
    """An array [n, width] in a nameless temporary file; rows never written are zero. Gone when the object is."""

    def __init__(self, rows: int, width: int, dtype: type, folder: Path | None = None) -> None:
        """`folder`: where the file lies; default the system's folder for temporary files."""
        self.shape = (rows, width)
        self.dtype = np.dtype(dtype)
        self._bytes = width * self.dtype.itemsize
        self._file, name = tempfile.mkstemp(prefix=".flawline-", dir=folder)
        Path(name).unlink()
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, rows * self._bytes)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put values [k, width] at the given rows."""
        for row, value in zip(rows.tolist(), np.ascontiguousarray(values, dtype=self.dtype), strict=True):
            os.pwrite(self._file, value.tobytes(), row * self._bytes)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """[k, width], the rows in the order given."""
        parts = [os.pread(self._file, self._bytes, row * self._bytes) for row in rows.tolist()]
        return np.frombuffer(b"".join(parts), dtype=self.dtype).reshape(len(rows), self.shape[1])

    def blocks(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The given rows a few at a time: which of them (a slice of `rows`), and their values."""
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, self.read(rows[part])

    def copy_to(self, stream: IO[bytes]) -> None:
        """Append all rows' bytes to an open file, in row order."""
        for _, values in self.blocks(np.arange(self.shape[0])):
            stream.write(values.tobytes())
