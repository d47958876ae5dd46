"""A checkpoint file that torch saved, opened as what it is: a zip archive of raw numbers and one table of contents.

The table is read by flawline.importers.structure, which runs nothing. Numbers are read one tensor at a time and only
where asked for, after their shape was checked.
"""

import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.importers.structure import MOST_BYTES, TensorPlace, read_structure

MOST_ENTRIES = 10_000
MOST_NUMBERS = 2**26  # of one tensor; the largest known has 3.7 million
_AGAIN = "fetch it again"
#: what zipfile raises over archives that are damaged, on purpose or not
_DAMAGED = (
    zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose structure is known: a dict of plain values, with `TensorPlace` where a tensor lies.

    Attributes:
        root: name of the folder inside the archive that torch put everything in.
    """

    path: Path
    sha256: str
    root: str
    table: dict[str | int, Any]

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Open a checkpoint; no tensor is read yet.

        Raises:
            FlawlineError: no such file, no archive as torch writes it, or a structure that is no state dict.
        """
        path = Path(path)
        if not path.is_file():
            raise FlawlineError(f"{path} is no file", "name a checkpoint (.pth or .pt)")
        try:
            with zipfile.ZipFile(path) as archive:
                root = _inspect(archive, path)
                table = read_structure(archive.read(f"{root}/data.pkl"), str(path))
        except _DAMAGED as error:
            raise _unreadable(path) from error
        if not isinstance(table, dict):
            raise FlawlineError(f"{path} holds no dict of tensors", "name a checkpoint with a state dict")
        return cls(path, sha256_file(path), root, table)

    def tensor(self, place: TensorPlace) -> Tensor:
        """The numbers of a tensor, in their own dtype.

        Raises:
            FlawlineError: they are not all there, or too many.
        """
        count, storage = math.prod(place.shape), place.storage
        reach = (
            place.offset + sum((n - 1) * step for n, step in zip(place.shape, place.stride, strict=True)) + 1
        )
        dtype: torch.dtype = getattr(torch, storage.dtype)
        size = storage.count * dtype.itemsize
        if max(count, storage.count) > MOST_NUMBERS:
            raise FlawlineError(f"{self.path}: a tensor of {count} numbers is too large", "name another file")
        if count == 0:
            return torch.empty(place.shape, dtype=dtype)
        try:
            with zipfile.ZipFile(self.path) as archive:
                entry = archive.getinfo(f"{self.root}/data/{storage.key}")
                if entry.file_size != size or reach > storage.count:
                    raise FlawlineError(f"{self.path}: the numbers of {entry.filename} are cut short", _AGAIN)
                numbers = torch.frombuffer(bytearray(archive.read(entry)), dtype=dtype)
        except KeyError as error:
            raise FlawlineError(f"{self.path}: {error.args[0]}", _AGAIN) from error
        except _DAMAGED as error:
            raise _unreadable(self.path) from error
        return numbers.as_strided(place.shape, place.stride, place.offset).clone()


def _inspect(archive: zipfile.ZipFile, path: Path) -> str:
    """The folder that everything lies in, if the archive is what torch writes: stored, plain, each name once."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(entries) > MOST_ENTRIES or len(set(names)) < len(names):
        raise FlawlineError(
            f"{path} has too many files in it, or one twice", "name a checkpoint that torch saved"
        )
    odd = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1]
    if odd:
        raise FlawlineError(
            f"{path}: {odd[0]!r} is packed or locked, as torch never writes it", "name another file"
        )
    roots = [
        name.removesuffix("/data.pkl")
        for name in names
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise FlawlineError(
            f"{path} is a zip archive without one data.pkl", "name a checkpoint that torch saved"
        )
    if archive.getinfo(f"{roots[0]}/data.pkl").file_size > MOST_BYTES:
        raise FlawlineError(f"{path}: its structure is too long for a state dict", "name another file")
    order = f"{roots[0]}/byteorder"
    if order in names and (archive.getinfo(order).file_size != 6 or archive.read(order) != b"little"):
        raise FlawlineError(f"{path} was saved on a big-endian machine", "save it again on a common one")
    return roots[0]


def _unreadable(path: Path) -> FlawlineError:
    try:
        with path.open("rb") as stream:
            zipped = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        return FlawlineError(f"{path} cannot be read: {error.strerror}", "fix its permissions")
    if zipped:
        return FlawlineError(f"{path} is cut short or damaged", _AGAIN)
    return FlawlineError(
        f"{path} is no zip archive: only checkpoints that torch 1.6 or later saved are read",
        "older ones are bare pickles, which are never opened; ask for a newer one",
    )
