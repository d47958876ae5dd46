"""Image beside heat map, for `flawline score --out`."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

# Dark to bright in even steps of lightness, so that the map reads in grey as well: RGB at 0, 1/4 … 1.
_RAMP = np.array(
    [[6, 4, 32], [92, 18, 110], [198, 52, 72], [250, 148, 26], [252, 250, 178]], dtype=np.float64
)
_LEAST_SPAN = 0.1
_FAINT, _STRONG = 0.3, 0.75
_GAP = 4

Scale = tuple[float, float]


def scale_of(maps: Sequence[np.ndarray]) -> Scale:
    """The map values drawn darkest and brightest: the median and the 99.9th percentile, some way apart.

    One scale for many pictures keeps them comparable; the least span keeps the noise of good images dark.
    """
    low, high = np.percentile(np.concatenate([values.ravel() for values in maps]), [50, 99.9])
    return float(low), float(max(high, low + _LEAST_SPAN))


def heat(levels: np.ndarray) -> np.ndarray:
    """Colours uint8 [h, w, 3] of levels [h, w]; 0..1, what lies outside is clipped, NaN is 0."""
    at = np.linspace(0.0, 1.0, len(_RAMP))
    clipped = np.clip(np.nan_to_num(levels.astype(np.float64)), 0.0, 1.0)
    channels = [np.interp(clipped, at, _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def side_by_side(image: Image.Image, values: np.ndarray, scale: Scale, longest: int = 768) -> Image.Image:
    """The image on the left, the image under its heat map on the right.

    Args:
        image: any mode and size.
        values: anomaly map [h, w], stretched over the image.
        scale: from `scale_of`.
        longest: larger images are reduced to this many pixels on their longer side.
    """
    left = image.convert("RGB")
    left.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    low, high = scale
    stretched = Image.fromarray(values.astype(np.float32)).resize(left.size, Image.Resampling.BILINEAR)
    levels = np.clip((np.asarray(stretched) - low) / (high - low), 0.0, 1.0)
    # The hotter, the stronger the colour: what is normal stays recognisable.
    share = Image.fromarray(((_FAINT + (_STRONG - _FAINT) * levels) * 255).round().astype(np.uint8))
    right = Image.composite(Image.fromarray(heat(levels)), left, share)
    sheet = Image.new("RGB", (2 * left.width + _GAP, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _GAP, 0))
    return sheet
