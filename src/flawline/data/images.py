"""Reading images and masks safely: the header first, a cap on pixels, one clear clause where a file is bad.

Every image of flawline is opened here: the cap and EXIF orientation hold everywhere.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import (  # the plugins are imported for their registration: a restricted open() looks for no others
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from flawline.errors import FlawlineError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
DEFAULT_MAX_PIXELS = 50_000_000
# Pillow tries no other decoder, whatever the bytes say: EPS, for one, would start an external program.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_GUARD = threading.Lock()

Source = Path | str | IO[bytes]


class _Unusable(Exception):
    """Carries the clause that says why a file cannot be used."""


def is_image_name(path: Path) -> bool:
    """Whether the suffix is one of an image (any case) and the file is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def size(path: Source) -> tuple[int, int] | None:
    """(width, height) in pixels as shown (EXIF orientation applied), or None where no header can be read.

    Nothing is decoded: the cost does not depend on the number of pixels.
    """
    try:
        with _header(path) as image:
            return _shown_size(image)
    except _Unusable:
        return None


class Examined(NamedTuple):
    """What one reading of an image tells.

    Attributes:
        size: (width, height) of the decoded image, of the header where it does not decode; None without a header.
        problem: as of `problem`.
        spread: as of the function `spread`; None where the image does not decode.
    """

    size: tuple[int, int] | None
    problem: str | None
    spread: float | None


def examine(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> Examined:
    """`size`, `problem` and `spread` of an image, decoded once."""
    try:
        image = _decoded(path, max_pixels)
        return Examined(image.size, None, _spread(_rgb(image)))
    except _Unusable as reason:
        return Examined(size(path), str(reason), None)


def problem(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> str | None:
    """One clause that says why the image cannot be used, or None when it decodes completely."""
    try:
        _decoded(path, max_pixels)
    except _Unusable as reason:
        return str(reason)
    return None


def load_rgb(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode an image: 8-bit RGB, upright. 16-bit greys keep their upper 8 bits; transparency is dropped.

    Raises:
        FlawlineError: the file cannot be used; the message names it.
    """
    try:
        return _rgb(_decoded(path, max_pixels))
    except _Unusable as reason:
        raise FlawlineError(f"{_name(path)}: {reason}", "replace or remove the image") from reason


def load_mask(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Decode a mask: bool array [height, width], True where a pixel is above 0, upright.

    Colour masks count where any channel is above 0; fully transparent pixels do not. JPEG leaves ringing
    around the edges, so there the limit is half of the range.

    Raises:
        FlawlineError: the file cannot be used; the message names it.
    """
    try:
        return _marked(_decoded(path, max_pixels))
    except _Unusable as reason:
        raise FlawlineError(f"{_name(path)}: {reason}", "replace or remove the mask") from reason


def mask_values(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> frozenset[int]:
    """The values above 0 that a grey or palette mask holds, for data sets that number defect types; else empty.

    Raises:
        FlawlineError: the file cannot be used; the message names it.
    """
    try:
        mask = _decoded(path, max_pixels)
    except _Unusable as reason:
        raise FlawlineError(f"{_name(path)}: {reason}", "replace or remove the mask") from reason
    if mask.mode not in {"1", "L", "P"}:
        return frozenset()
    return frozenset(int(value) for value in np.unique(np.asarray(mask)) if value)


class ExaminedMask(NamedTuple):
    """What one reading of a mask tells: its size, whether a pixel is marked, why it cannot be used (or None)."""

    size: tuple[int, int] | None
    marked: bool
    problem: str | None

    def fits(self, shown: tuple[int, int]) -> str | None:
        """One clause: why the mask cannot be used with an image of size `shown` (width, height), or None."""
        if self.problem is not None or self.size is None:
            return f"cannot be used: {self.problem}"
        if self.size != shown:
            return f"is {self.size[0]}×{self.size[1]} pixels, its image {shown[0]}×{shown[1]}"
        return None if self.marked else "is empty: no pixel is marked"


def examine_mask(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> ExaminedMask:
    """Decode a mask once for all that `ExaminedMask.fits` can ask."""
    try:
        mask = _decoded(path, max_pixels)
        return ExaminedMask(mask.size, bool(_marked(mask).any()), None)
    except _Unusable as reason:
        return ExaminedMask(None, False, str(reason))


def spread(path: Source, max_pixels: int = DEFAULT_MAX_PIXELS) -> float:
    """Standard deviation of the grey values (0..255) of a picture reduced to about 64 pixels a side.

    Noise averages out in the reduction: what is near 0 shows nothing at all (lens cap, lights off).

    Raises:
        FlawlineError: the file cannot be used; the message names it.
    """
    return _spread(load_rgb(path, max_pixels))


def _spread(small: Image.Image) -> float:
    small.thumbnail((64, 64))
    return float(np.asarray(small.convert("L"), dtype=np.float64).std())


@contextmanager
def _header(source: Source) -> Iterator[Image.Image]:
    """Open without decoding. Pillow's own pixel limit is lifted meanwhile: `max_pixels` is ours to check."""
    if not hasattr(source, "read") and Path(source).is_file() and Path(source).stat().st_size == 0:
        raise _Unusable("zero bytes")
    with _GUARD:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(source, formats=_FORMATS)
        except UnidentifiedImageError:
            raise _Unusable(_what_instead(source)) from None
        except OSError as error:
            raise _Unusable(f"cannot be read: {error.strerror or error}") from None
        except Exception as error:  # a damaged header raises whatever its decoder stumbles over
            raise _Unusable(f"damaged header: {_flat(error)}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _decoded(source: Source, max_pixels: int) -> Image.Image:
    with _header(source) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _Unusable(f"too large: {width}×{height} pixels, data.max_pixels allows {max_pixels}")
        if image.mode in {"I", "F"}:
            raise _Unusable("unsupported: 32 bits a pixel; save it with 8 or 16 bits")
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # a copy would forget its format
            return image
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
            cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
            raise _Unusable("truncated" if cut else f"damaged: {_flat(error)}") from None


def _shown_size(image: Image.Image) -> tuple[int, int]:
    if image.format == "PNG" and "exif" not in image.info:
        return image.size  # getexif() would decode the whole image to look behind it
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    except Exception:  # damaged EXIF says nothing about orientation
        turned = False
    width, height = image.size
    return (height, width) if turned else (width, height)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


def _marked(image: Image.Image) -> np.ndarray:
    limit = 127 if image.format in {"JPEG", "MPO"} else 0
    if image.mode in {"RGBA", "LA", "PA"}:
        pixels: np.ndarray[Any, Any] = np.asarray(image.convert("RGBA"))
        return np.asarray((pixels[..., :3] > limit).any(axis=-1) & (pixels[..., 3] > 0))
    pixels = np.asarray(
        image if image.mode in {"1", "L", "P"} or image.mode.startswith("I;16") else _rgb(image)
    )
    above: np.ndarray[Any, Any] = np.asarray(pixels > limit)
    return above if above.ndim == 2 else np.asarray(above.any(axis=-1))


def _what_instead(source: Source) -> str:
    if hasattr(source, "read"):
        return "not a JPEG, PNG, BMP, TIFF or WebP image"
    path = Path(source)
    with path.open("rb") as stream:
        start = stream.read(512)
    if b"\0" not in start:
        try:
            start.decode("utf-8")
            return f"a text file named {path.suffix.lower()}, not an image"
        except UnicodeDecodeError:
            pass
    return "not a JPEG, PNG, BMP, TIFF or WebP image"


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _name(source: Source) -> str:
    return "the image" if hasattr(source, "read") else str(source)
