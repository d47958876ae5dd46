"""Small trees of images for tests: every picture is different, every tree the same each time."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from flawline.determinism import derived_seed

SIDE = 72


def picture(path: Path, side: int = SIDE, **saving: object) -> Path:
    """A noise image whose content follows from its place in the tree."""
    noise = np.random.default_rng(derived_seed(*path.parts[-4:]))
    pixels = noise.integers(0, 256, (side, side, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **saving)
    return path


def mask(path: Path, size: tuple[int, int] = (SIDE, SIDE), marked: bool = True) -> Path:
    """A mask of `size` (width, height), 0/255, with a marked square of 8 pixels a side."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    if marked:
        pixels[4:12, 4:12] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def category(folder: Path, defects: tuple[str, ...] = ("scratch",), train: int = 8, test: int = 5) -> Path:
    """One category in MVTec layout: `train` and `test` good images, `test` images and masks a defect type."""
    for i in range(train):
        picture(folder / "train" / "good" / f"{i}.png")
    for i in range(test):
        picture(folder / "test" / "good" / f"{i}.png")
        for defect in defects:
            picture(folder / "test" / defect / f"{i}.png")
            mask(folder / "ground_truth" / defect / f"{i}_mask.png")
    return folder


def huge_png(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A PNG of under a hundred bytes whose header claims `width` × `height` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    )
    return path


def cut_short(path: Path) -> Path:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
