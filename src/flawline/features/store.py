"""Feature folders: written once, atomically, and memory-mapped by everything after.

A folder holds `index.parquet` (one row an image), for each image path `cls-<path>.npy` float32 [n, D] and
`patches-<path>.npy` [n, levels, N, D or W] in the dtype of the settings, `masks.npy` uint8 0/1 [n, side, side]
(training part only) and `card.json`. Row i of each belongs to row i of the index.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import resolve_path, resolve_paths
from flawline.errors import FlawlineError
from flawline.files import atomic_folder, read_json, read_parquet, write_json, write_parquet
from flawline.settings import FeatureSettings, ImagePath

INDEX_COLUMNS = ["row", "image", "category", "defect", "label", "mask", "sha256", "synthetic"]
_REMEDY = "run the features stage again (dvc repro)"


@dataclass
class FeatureArrays:
    """The open arrays of a folder that is being written; assign rows, in any order."""

    cls: dict[str, np.ndarray]
    patches: dict[str, np.ndarray]
    masks: np.ndarray | None


@contextmanager
def write_features(
    folder: Path, index: pd.DataFrame, backbone: Backbone, settings: FeatureSettings, with_masks: bool
) -> Iterator[FeatureArrays]:
    """Make a feature folder; it appears under its name only when the block ends without an error.

    Args:
        folder: where it shall stand; an old one is replaced.
        index: INDEX_COLUMNS in row order.
        backbone: gives the sizes and the card.
        settings: `paths` and the `dtype` of the patches.
        with_masks: also masks.npy, all zeros at first.
    """
    n, side = len(index), backbone.image_size
    card = make_card(backbone, settings, index)
    with atomic_folder(folder) as partial:
        arrays = FeatureArrays(
            cls={
                name: open_memmap(
                    partial / f"cls-{name}.npy", mode="w+", dtype=np.float32, shape=(n, backbone.dim)
                )
                for name in settings.paths
            },
            patches={
                name: open_memmap(
                    partial / f"patches-{name}.npy",
                    mode="w+",
                    dtype=settings.dtype,
                    shape=(n, *card["shapes"][name]),
                )
                for name in settings.paths
            },
            masks=open_memmap(partial / "masks.npy", mode="w+", dtype=np.uint8, shape=(n, side, side))
            if with_masks
            else None,
        )
        write_parquet(partial / "index.parquet", index[INDEX_COLUMNS])
        write_json(partial / "card.json", card)
        yield arrays
        for array in (*arrays.cls.values(), *arrays.patches.values(), arrays.masks):
            if isinstance(array, np.memmap):
                array.flush()


def make_card(backbone: Backbone, settings: FeatureSettings, index: pd.DataFrame) -> dict[str, Any]:
    """What a feature folder says of itself; blocks of the paths are numbers."""
    paths = resolve_paths(backbone, settings.paths)
    cells = backbone.grid**2
    return {
        "backbone": backbone.card(),
        "fingerprint": backbone.fingerprint,
        "grid": backbone.grid,
        "blocks": backbone.vision_layers,
        "dim": backbone.dim,
        "side": backbone.image_size,
        "paths": {name: path.model_dump() for name, path in paths.items()},
        "shapes": {
            name: [len(path.levels), cells, backbone.dim if path.space == "joint" else backbone.vision_width]
            for name, path in paths.items()
        },
        "dtype": settings.dtype,
        "images": len(index),
        "synthetic": int(index["synthetic"].sum()),
    }


@dataclass(frozen=True)
class FeatureSet:
    """One feature folder, read. Dimensions: n images, N = grid² patches, D joint."""

    folder: Path
    index: pd.DataFrame
    card: dict[str, Any]
    _open: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(
        cls,
        folder: Path,
        backbone: Backbone | None = None,
        paths: dict[str, ImagePath] | None = None,
    ) -> "FeatureSet":
        """Open a folder; nothing large is read.

        Args:
            folder: as `write_features` made it.
            backbone: if given, the features must be this backbone's.
            paths: if given, these image paths must be in the folder, read the same way.

        Raises:
            FlawlineError: the folder is missing or damaged, or was made with another backbone or other paths.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FlawlineError(f"{folder} is missing", _REMEDY)
        features = cls(folder, read_parquet(folder / "index.parquet"), read_json(folder / "card.json"))
        missing = [column for column in INDEX_COLUMNS if column not in features.index]
        if missing or list(features.index["row"]) != list(range(len(features.index))):
            raise FlawlineError(f"{folder / 'index.parquet'} is no feature index in row order", _REMEDY)
        features.require(backbone, paths)
        return features

    def require(self, backbone: Backbone | None, paths: dict[str, ImagePath] | None = None) -> None:
        """Raise FlawlineError unless the features were made with this backbone and hold these paths."""
        if backbone is not None and self.card.get("fingerprint") != backbone.fingerprint:
            made, now = self.card.get("backbone", {}), backbone.card()
            keys = [key for key in now if made.get(key) != now[key]]
            told = (
                ", ".join(f"{key} {made.get(key)}, now {now[key]}" for key in keys) or "another architecture"
            )
            raise FlawlineError(f"{self.folder} holds features of another backbone ({told})", _REMEDY)
        for name, path in (paths or {}).items():
            have = self.card.get("paths", {}).get(name)
            wanted = resolve_path(name, path, self.card["blocks"], self.card["backbone"]["name"])
            if have != wanted.model_dump():
                raise FlawlineError(
                    f"{self.folder}: path '{name}' was read as {have or 'nothing'}, not as asked now",
                    _REMEDY,
                )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def grid(self) -> int:
        """Patches a side."""
        return int(self.card["grid"])

    def cls(self, path: str) -> np.ndarray:
        """Image features float32 [n, D] of an image path, L2-normalised, memory-mapped read-only."""
        self._shape(path)
        return self._array(f"cls-{path}", (len(self), self.card["dim"]))

    def patches(self, path: str) -> np.ndarray:
        """Patch features [n, levels, N, D] of an image path (W instead of D in `tower` space), L2-normalised.

        Memory-mapped, in the stored dtype.

        Raises:
            FlawlineError: the folder has no such path; the message lists those it has.
        """
        return self._array(f"patches-{path}", (len(self), *self._shape(path)))

    def _shape(self, path: str) -> list[int]:
        if path not in self.card["paths"]:
            have = ", ".join(sorted(self.card["paths"]))
            raise FlawlineError(
                f"{self.folder} has no features for path '{path}' (it has {have})", "add it to features.paths"
            )
        shape: list[int] = self.card["shapes"][path]
        return shape

    @property
    def masks(self) -> np.ndarray:
        """Masks uint8 0/1 [n, side, side] of a training part: zeros for good images, memory-mapped.

        Raises:
            FlawlineError: this is a test part; its masks are files below data/.
        """
        return self._array("masks", (len(self), self.card["side"], self.card["side"]))

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self._open:
            path = self.folder / f"{name}.npy"
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError as error:
                raise FlawlineError(f"{path} is missing", _REMEDY) from error
            except (ValueError, OSError) as error:
                raise FlawlineError(f"{path} cannot be read: {error}", _REMEDY) from error
            if array.shape != shape:
                raise FlawlineError(f"{path} is {list(array.shape)}, its card says {list(shape)}", _REMEDY)
            self._open[name] = array
        return self._open[name]
