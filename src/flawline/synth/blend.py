"""Blending an anomaly into a picture, and which pixels visibly changed."""

import numpy as np
from scipy import ndimage
from skimage.morphology import remove_small_holes

from flawline.synth.regions import Region
from flawline.synth.shapes import grain

# A change of a channel by this much within one pixel's neighbourhood can be seen.
VISIBLE = 12 / 255
# A region that shows less than this share of itself, or changes less than this on average, is no anomaly.
LEAST_VISIBLE = 0.5
LEAST_MEAN_CHANGE = 0.06


def blend(picture: np.ndarray, content: np.ndarray, region: Region, opacity: float) -> np.ndarray:
    """`content` over `picture` (both float32 [H, W, 3]), by the region's coverage; rounded to 8 bits.

    Outside the region's mask the picture stays as it is, bit by bit.
    """
    weight = (opacity * region.cover)[..., None]
    mixed = np.clip(picture + weight * (content - picture), 0.0, 1.0)
    rounded = np.round(mixed * 255.0) / 255.0
    out: np.ndarray = np.where(region.mask[..., None], rounded, picture).astype(np.float32)
    return out


def visible(before: np.ndarray, after: np.ndarray, region: Region) -> np.ndarray | None:
    """The part of the region where the change can be seen: bool [H, W], or None where most of it cannot.

    A pixel counts when it or a direct neighbour changed visibly, so that noise near zero makes no holes;
    small holes are closed.
    """
    change = np.abs(after - before).max(axis=-1)
    seen = ndimage.binary_dilation(change >= VISIBLE, np.ones((3, 3), dtype=bool)) & region.mask
    if seen.sum() < LEAST_VISIBLE * region.mask.sum() or change[seen].mean() < LEAST_MEAN_CHANGE:
        return None
    reach = 1 + round(grain(seen.shape))
    closed = ndimage.binary_closing(np.pad(seen, reach), iterations=reach)[reach:-reach, reach:-reach] | seen
    whole = remove_small_holes(closed, max_size=round(24 * grain(seen.shape) ** 2))
    kept: np.ndarray = np.asarray(whole & region.mask)
    return kept
