"""From files to rows of a feature folder: from the feature store where it has them, else through CLIP.

All image paths of a batch are read in one pass of the tower. A row does not depend on the images it is encoded with:
what is found and what is computed are the same bytes, whatever was encoded before, with whom, and by which process.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.data.images import load_rgb, size
from flawline.errors import FlawlineError
from flawline.features.cache import FeatureCache, Shelf
from flawline.features.shards import Row
from flawline.features.store import FeatureArrays
from flawline.files import sha256_file
from flawline.progress import track
from flawline.settings import FeatureSettings

# A pixel of a reduced mask counts as marked when this share of its area is: thin scratches must survive.
MASK_SHARE = 0.25


@dataclass(frozen=True)
class Item:
    """One image to encode, and its mask where it has one that shall be stored."""

    image: Path
    mask: Path | None = None


@dataclass(frozen=True)
class _Pass:
    """Images (SHA-256 → file) to encode together, and the image paths that they lack."""

    files: dict[str, Path]
    paths: tuple[str, ...]


def encode_items(
    items: list[Item],
    backbone: Backbone,
    settings: FeatureSettings,
    arrays: FeatureArrays,
    what: str,
    max_pixels: int,
    cache: FeatureCache | None = None,
) -> None:
    """Fill the rows of `arrays`, item i into row i; the same image is encoded once, however often it is named.

    Args:
        items: in row order.
        backbone: the frozen CLIP.
        settings: paths, dtype and batch size.
        arrays: open arrays of the folder.
        what: words for the progress bar.
        max_pixels: cap of one image, read from its header.
        cache: the feature store; None: everything is encoded and nothing is kept.

    Raises:
        FlawlineError: a file is missing, broken or too large.
    """
    _Encoding(backbone, settings, arrays, max_pixels, cache).run(items, what)
    if arrays.masks is not None:
        for row, item in enumerate(items):
            if item.mask is not None:
                arrays.masks[row] = load_small_mask(item.mask, backbone.image_size)


class _Encoding:
    """The filling of one folder's rows."""

    def __init__(
        self,
        backbone: Backbone,
        settings: FeatureSettings,
        arrays: FeatureArrays,
        max_pixels: int,
        cache: FeatureCache | None,
    ) -> None:
        self.backbone, self.settings, self.arrays, self.max_pixels = backbone, settings, arrays, max_pixels
        self.cache = cache
        self.shelves: dict[str, Shelf] = {}
        if cache is not None:
            for name, path in settings.paths.items():
                self.shelves[name] = cache.shelf(backbone, name, path, settings.dtype)
        self.rows: dict[str, list[int]] = defaultdict(list)

    def run(self, items: list[Item], what: str) -> None:
        if self.cache is not None:
            self.cache.begin()
        files: dict[str, Path] = {}
        for row, item in enumerate(items):
            image = self._identify(item.image)
            self.rows[image].append(row)
            files.setdefault(image, item.image)
        lacking: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
        for image, file in files.items():
            if missing := self._fill(image, tuple(self.settings.paths), file):
                lacking[missing][image] = file
        passes = [
            _Pass(dict(list(images.items())[start : start + self.settings.batch]), missing)
            for missing, images in lacking.items()
            for start in range(0, len(images), self.settings.batch)
        ]
        for one in track(self._in_turn(passes), what, len(passes)):
            self._encode(one)

    def _identify(self, file: Path) -> str:
        """The SHA-256 of the file as it is now: the manifest may be older."""
        try:
            return sha256_file(file)
        except OSError:
            load_rgb(file, self.max_pixels)  # tells what is wrong with it
            raise

    def _fill(self, image: str, paths: tuple[str, ...], file: Path) -> tuple[str, ...]:
        """Fill the rows of an image from the store; the paths that it lacks."""
        missing = []
        for name in paths:
            found = self.shelves[name].read(image) if self.shelves else None
            if found is None:
                missing.append(name)
            else:
                self._assign(name, image, found)
        if not missing:
            shown = size(file)  # the store may have been filled under a higher cap
            if shown is not None and shown[0] * shown[1] > self.max_pixels:
                load_rgb(file, self.max_pixels)
        return tuple(missing)

    def _assign(self, name: str, image: str, row: Row) -> None:
        for place in self.rows[image]:
            self.arrays.cls[name][place] = row.cls
            self.arrays.patches[name][place] = row.patches

    def _in_turn(self, passes: list[_Pass]) -> Iterator[_Pass]:
        """Each pass once, claimed while it is worked on; what another process works on comes last."""
        if self.cache is None:
            yield from passes
            return
        busy: list[_Pass] = []
        for wait, those in ((False, passes), (True, busy)):
            for one in those:
                with self.cache.claim(list(one.files), wait) as mine:
                    if mine:
                        yield self._left(one)
                    else:
                        busy.append(one)

    def _left(self, one: _Pass) -> _Pass:
        """What is still to do of a pass, after what others have stored in the meantime."""
        for name in one.paths:
            self.shelves[name].refresh()
        files = {image: file for image, file in one.files.items() if self._fill(image, one.paths, file)}
        return _Pass(files, one.paths)

    def _encode(self, one: _Pass) -> None:
        images = list(one.files)
        if not images:
            return
        pixels = [self.backbone.preprocess(load_rgb(file, self.max_pixels)) for file in one.files.values()]
        if (
            self.backbone.device.type != "cpu"
        ):  # there a kernel, and its rounding, is chosen by the batch size
            pixels += pixels[-1:] * (self.settings.batch - len(pixels))
        wanted = {name: self.settings.paths[name] for name in one.paths}
        for name, encoded in encode_image(self.backbone, torch.stack(pixels), wanted).items():
            cls = encoded.cls[: len(images)].cpu().numpy()
            patches = encoded.patches[: len(images)].cpu().numpy().astype(self.settings.dtype)
            for place, image in enumerate(images):
                self._assign(name, image, Row(cls[place], patches[place]))
            if self.shelves:
                self.shelves[name].add(images, cls, patches)


def load_small_mask(path: Path, side: int) -> np.ndarray:
    """A mask file as uint8 0/1 [side, side], squashed like its image; never loses a mask entirely.

    Anything above 0 is marked: data sets write 1, 255, or the number of a defect type.

    Raises:
        FlawlineError: the file cannot be read or marks nothing.
    """
    try:
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except OSError as error:
        raise FlawlineError(
            f"{path} cannot be read: {error}", "restore the file, or run the synthesize stage again"
        ) from error
    if not mask.any():
        raise FlawlineError(f"{path} marks nothing", "give it a mask, or run the synthesize stage again")
    small = Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    share = np.asarray(small)
    return (share >= min(MASK_SHARE, float(share.max()))).astype(np.uint8)
