"""One shard of the feature store: a safetensors file with some rows of one reading, each with its own hash.

A shard holds `cls` float32 [n, D], `patches` [n, levels, N, D or W], and in its header which image each row is of and
the SHA-256 of the row. It is its own index: there is no second file that could disagree with it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flawline.files import atomic_file

SUFFIX = ".safetensors"
_ROWS = "rows"
_PARTS = ("cls", "patches")


class BrokenShard(Exception):
    """A shard cannot be read, or holds another row than its header says; the clause says which."""


@dataclass(frozen=True)
class Row:
    """Features of one image by one image path: cls float32 [D], patches [levels, N, D or W] in the stored dtype."""

    cls: np.ndarray
    patches: np.ndarray

    def digest(self, image: str) -> str:
        """SHA-256 over the image it belongs to and the values."""
        found = hashlib.sha256(image.encode())
        for values in (self.cls, self.patches):
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()


def name_of(images: list[str]) -> str:
    """The file name of the shard that holds these images: the same images, the same name."""
    return hashlib.sha256("\n".join(images).encode()).hexdigest()[:32] + SUFFIX


def write_shard(folder: Path, images: list[str], cls: np.ndarray, patches: np.ndarray) -> Path:
    """Write rows [n, …] of n images (SHA-256 of their files) as one shard, whole or not at all.

    Raises:
        FlawlineError: the disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save_file

    rows = [Row(*values).digest(image) for image, *values in zip(images, cls, patches, strict=True)]
    path = folder / name_of(images)
    with atomic_file(path) as partial:
        header = {_ROWS: json.dumps(list(zip(images, rows, strict=True)))}
        save_file(
            {"cls": np.ascontiguousarray(cls), "patches": np.ascontiguousarray(patches)}, partial, header
        )
        with partial.open("rb") as written:  # a power cut must not leave a name without its bytes
            os.fsync(written.fileno())
    return path


class Shard:
    """A shard's header; the values are memory-mapped while they are read, and checked row by row.

    Attributes:
        rows: which images it holds: number and digest of each row, by the SHA-256 of the image.
    """

    def __init__(self, path: Path) -> None:
        """Read the header alone; no file stays open.

        Raises:
            BrokenShard: it is no shard, or cut short.
            FileNotFoundError: it was evicted.
        """
        self.path = path
        with _broken("its header cannot be read"), self.open() as file:
            listed = json.loads(file.metadata()[_ROWS])
            self.rows: dict[str, tuple[int, str]] = {
                image: (number, digest) for number, (image, digest) in enumerate(listed)
            }
            if {file.get_slice(part).get_shape()[0] for part in _PARTS} != {len(listed)}:
                raise ValueError("it lists other rows than there are")

    def open(self) -> Any:
        """The file, memory-mapped, for `read`."""
        from safetensors import safe_open

        return safe_open(self.path, framework="numpy")

    def read(self, image: str, file: Any) -> Row:
        """The row of an image that `rows` names, copied out of the mapping `file`.

        Raises:
            BrokenShard: the values are not those that were written.
        """
        number, digest = self.rows[image]
        with _broken(f"row {number} cannot be read"):
            row = Row(*(np.asarray(file.get_slice(part)[number : number + 1])[0] for part in _PARTS))
        if row.digest(image) != digest:
            raise BrokenShard(f"row {number} is not what was written")
        return row


@contextmanager
def _broken(clause: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BrokenShard(f"{clause}: {error}") from error
