"""The feature store: what CLIP has seen once is never encoded again, by whatever stage, method, seed or rerun.

It lies outside DVC, below the folder `features.cache` names, one shelf (a folder) a *reading*:

    <first 24 digits of the reading's SHA-256>/reading.json      the reading in words
    <…>/<images>.safetensors                                     shards of rows; see flawline.features.shards

A reading is all that decides the values but the image: backbone fingerprint, image path with its blocks as numbers,
size, dtype, and the code and libraries that compute them. The image is the SHA-256 of its file. So nothing in the
store is ever out of date, and features computed here and features found here are the same bytes.

Whoever is killed leaves whole shards, and locks that the system releases. The disk is bounded: shards not used for the
longest time go first.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import resolve_path
from flawline.errors import FlawlineError
from flawline.features.shards import SUFFIX, BrokenShard, Row, Shard, name_of, write_shard
from flawline.files import PARTIAL_SUFFIX, sha256_file, write_json
from flawline.settings import ImagePath

_LOCKS = "locks"
_READING = "reading.json"
_ABANDONED_SECONDS = 3600.0  # a write takes seconds: a temporary file this old has lost its writer
# Whatever can change a value. A new comment there costs a new encoding, as it does in dvc.yaml.
_CODE = (
    "clip/backbone.py",
    "clip/image_path.py",
    "clip/products.py",
    "clip/weights.py",
    "data/images.py",
    "features/encode.py",
)
_LIBRARIES = ("torch", "open_clip_torch", "numpy", "pillow")


class FeatureCache:
    """The store of one workspace; any number of processes may use it at once."""

    def __init__(self, root: Path, limit: int) -> None:
        """`root` is made when something is stored; `limit` bounds its files in bytes."""
        self.root = root
        self.limit = limit
        self._full = False

    def shelf(self, backbone: Backbone, name: str, path: ImagePath, dtype: str) -> "Shelf":
        """The shelf of one image path (`name` is for people) as this backbone reads it."""
        reading = reading_of(backbone, name, path, dtype)
        digest = hashlib.sha256(json.dumps(reading, sort_keys=True).encode()).hexdigest()
        return Shelf(self, self.root / digest[:24], reading)

    def begin(self) -> None:
        """Bring the store within its limit, which may be lower than it was; what cannot be written is told once."""
        try:
            self.trim(self.limit)
        except OSError as error:
            self._give_up(f"{self.root} cannot be written: {error.strerror}")

    @contextmanager
    def claim(self, images: list[str], wait: bool) -> Iterator[bool]:
        """Whether this process may encode these images now: False where another one is at it.

        With `wait` the answer is True, after the other one has ended. A killed holder's claim is free at once.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / _LOCKS / f"{name_of(images)}.lock")
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as error:
            self._give_up(f"{self.root} cannot be locked: {error.strerror}")
            yield True
            return
        try:
            yield True
        finally:
            # Others may hold the unlinked file open: at worst two encode the same images, to the same bytes.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def store(self, shelf: "Shelf", images: list[str], cls: np.ndarray, patches: np.ndarray) -> None:
        """Add rows [n, …] of n images. What cannot be written is only not kept: one warning, no error."""
        size = cls.nbytes + patches.nbytes
        if self._full or size > self.limit:
            return
        try:
            if not (shelf.folder / _READING).is_file():
                write_json(shelf.folder / _READING, shelf.reading)
            self.trim(self.limit - size)
            write_shard(shelf.folder, images, cls, patches)
        except (FlawlineError, OSError) as error:
            self._give_up(str(error))

    def trim(self, limit: int) -> None:
        """Delete the shards used longest ago until at most `limit` bytes are left, and what killed writers left.

        Raises:
            OSError: the store cannot be written.
        """
        from filelock import FileLock

        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "trim.lock"):
            shards = []
            for path in self._files():
                with suppress(FileNotFoundError):
                    found = path.stat()
                    if path.name.endswith(PARTIAL_SUFFIX):
                        if time.time() - found.st_mtime > _ABANDONED_SECONDS:
                            path.unlink()
                    else:
                        shards.append((found.st_mtime_ns, path, found.st_size))
            left = sum(size for _, _, size in shards)
            for _, path, size in sorted(shards):
                if left <= limit:
                    break
                path.unlink(missing_ok=True)
                left -= size

    def _files(self) -> list[Path]:
        return [*self.root.glob(f"*/*{SUFFIX}"), *self.root.glob(f"*/.*{PARTIAL_SUFFIX}")]

    def _give_up(self, problem: str) -> None:
        if not self._full:
            warn(f"the feature store keeps nothing more in this run: {problem}")
        self._full = True


class Shelf:
    """The rows of one reading."""

    def __init__(self, cache: FeatureCache, folder: Path, reading: dict[str, Any]) -> None:
        self.folder = folder
        self.reading = reading
        self._cache = cache
        self._shards: dict[str, Shard] = {}
        self._where: dict[str, Shard] = {}
        self._open: tuple[Shard, Any] | None = (
            None  # one at a time: there may be more shards than file handles
        )
        self.refresh()

    def refresh(self) -> None:
        """See what other processes have stored since, or evicted."""
        there = sorted(path.name for path in self.folder.glob(f"*{SUFFIX}"))
        for name in set(self._shards) - set(there):
            self._forget(self._shards[name])
        for name in there:
            if name in self._shards:
                continue
            try:
                shard = Shard(self.folder / name)
            except FileNotFoundError:
                continue
            except BrokenShard as why:
                self._drop(self.folder / name, why)
                continue
            self._shards[name] = shard
            for image in shard.rows:
                self._where.setdefault(image, shard)

    def read(self, image: str) -> Row | None:
        """The features of an image by the SHA-256 of its file, checked; None where they are not here."""
        shard = self._where.get(image)
        if shard is None:
            return None
        try:
            if self._open is None or self._open[0] is not shard:
                self._open = shard, shard.open()
                with suppress(OSError):  # a store that is only read cannot say so
                    os.utime(shard.path)  # used now: among the last to be evicted
            return shard.read(image, self._open[1])
        except BrokenShard as why:
            self._drop(shard.path, why)
        except (SafetensorError, OSError):  # evicted or cut since its header was read
            self._drop(shard.path)
        self._forget(shard)
        return None

    def add(self, images: list[str], cls: np.ndarray, patches: np.ndarray) -> None:
        """Keep rows [n, …] of n images, as far as there is room."""
        self._cache.store(self, images, cls, patches)

    def _forget(self, shard: Shard) -> None:
        del self._shards[shard.path.name]
        self._open = None
        self._where = {image: found for image, found in self._where.items() if found is not shard}

    @staticmethod
    def _drop(path: Path, why: object = "cut short") -> None:
        if path.exists():
            warn(f"{path} is damaged ({why}): dropped, its images are encoded again")
        with suppress(OSError):
            path.unlink()


def reading_of(backbone: Backbone, name: str, path: ImagePath, dtype: str) -> dict[str, Any]:
    """All that decides the features of an image by one image path, but the image; `name` is not part of it."""
    resolved = resolve_path(name, path, backbone.vision_layers, backbone.settings.name)
    return {
        "fingerprint": backbone.fingerprint,
        "backbone": backbone.settings.name,
        "path": resolved.model_dump(),
        "size": backbone.image_size,
        "dtype": dtype,
        "device": backbone.device.type,
        "code": _code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


@cache
def _code() -> str:
    package = Path(__file__).resolve().parent.parent
    return hashlib.sha256("".join(sha256_file(package / name) for name in _CODE).encode()).hexdigest()


def warn(text: str) -> None:
    """A line on standard error."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
