"""What was read of every image the last time, so that an unchanged file is not read again.

An entry counts only while the file's size, modification time, change time and inode are what they were before it was
read. The change time cannot be set by a program, so a copy that restores the modification time is noticed as well.
A file that changed in the two seconds before a run is not remembered: a second change could fall into the same tick of
the clock. Another version of Pillow or of the reading code starts anew.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import PIL

from flawline.data import images
from flawline.data.images import Examined, ExaminedMask, examine, examine_mask
from flawline.data.scratch import scratch
from flawline.errors import FlawlineError
from flawline.files import atomic_file, sha256_file

_SETTLED = 2_000_000_000  # nanoseconds since the last change, from which on equal times mean equal content

Entry = list[Any]  # [size, mtime_ns, ctime_ns, inode, …what was read]


class ImageMemory:
    """Reads images and masks below `data_root`, or remembers them; the file lies beside it, in .flawline/.

    Args:
        data_root: the folder of the data sets.
        max_pixels: larger images are not decoded.
    """

    def __init__(self, data_root: Path, max_pixels: int) -> None:
        self._root = str(data_root)
        self._max_pixels = max_pixels
        self._header = [PIL.__version__, sha256_file(Path(images.__file__)), max_pixels]
        self._fresh = False
        self._path: Path | None = None
        self._now = 0
        self._entries: dict[str, dict[str, Entry]] = {"images": {}, "masks": {}}
        self._used: dict[str, dict[str, Entry]] = {"images": {}, "masks": {}}
        try:
            folder = scratch(data_root.parent)
            with atomic_file(folder / "clock") as clock:  # the file system's clock, not this machine's
                clock.touch()
                self._now = clock.stat().st_mtime_ns
            self._path = folder / "images.json"
        except (OSError, FlawlineError):  # a read-only checkout: nothing is remembered, everything is read
            return
        self._load()

    def image(self, path: Path) -> tuple[str, Examined]:
        """(SHA-256 as hex, what `examine` tells) of an image.

        Raises:
            OSError: the file cannot be read.
        """
        entry = self._recall("images", path, partial(self._read_image, path))
        digest, size, problem, spread = entry[4:]
        return digest, Examined(tuple(size) if size else None, problem, spread)

    def mask(self, path: Path) -> ExaminedMask:
        """What `examine_mask` tells of a mask."""
        try:
            entry = self._recall("masks", path, partial(self._read_mask, path))
        except OSError:
            return examine_mask(path, self._max_pixels)
        size, marked, problem = entry[4:]
        return ExaminedMask(tuple(size) if size else None, marked, problem)

    def save(self) -> None:
        """Keep what this run read and used, for the next one. Entries of data sets that it did not touch stay."""
        if self._path is None or not self._fresh:
            return
        touched = {_dataset(place) for used in self._used.values() for place in used}
        kept = {
            kind: {
                place: entry
                for place, entry in {**self._entries[kind], **self._used[kind]}.items()
                if (place in self._used[kind] or _dataset(place) not in touched)
                and max(entry[1], entry[2]) < self._now - _SETTLED
            }
            for kind in self._entries
        }
        try:
            with atomic_file(self._path) as target:
                target.write_text(json.dumps({"header": self._header, **kept}), encoding="utf-8")
        except FlawlineError:  # a full disk: the next stage that writes says so
            return

    def _recall(self, kind: str, path: Path, read: Any) -> Entry:
        state = os.stat(path)  # noqa: PTH116  (twice as fast as Path.stat, and this is the second run's loop)
        stamp = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        place = str(path).removeprefix(self._root)
        entry = self._entries[kind].get(place)
        if entry is None or entry[:4] != stamp:
            entry = [*stamp, *read()]
            self._fresh = True
        self._used[kind][place] = entry
        return entry

    def _read_image(self, path: Path) -> Entry:
        return [sha256_file(path), *examine(path, self._max_pixels)]

    def _read_mask(self, path: Path) -> Entry:
        return [*examine_mask(path, self._max_pixels)]

    def _load(self) -> None:
        assert self._path is not None
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if stored["header"] == self._header:
                self._entries = {kind: dict(stored[kind]) for kind in self._entries}
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or spoiled: read everything
            return


def _dataset(place: str) -> str:
    return place.lstrip("/").partition("/")[0]
