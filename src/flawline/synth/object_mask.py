"""Where the object is: noise belongs on the part, not on the background it lies on.

Three sources: `clip`, patch features of the V-V path compared with the object's words minus background words;
`otsu`, what differs from the border's colour; `whole`, all ones, as for textures, which fill the picture.
CLIP is asked first. Where the colours show an object too, they must agree with CLIP, and then give the finer
outline (`clip+otsu`); where they disagree the colours win: what looks like the border is not the object.
Which source was used is recorded.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import encode_words
from flawline.settings import ImagePath

VV = ImagePath(attention="vv")
OBJECT = ("a photo of a {}", "a close-up photo of a {}", "a {}", "the {}")
BACKGROUND = ("background", "a plain background", "an empty background", "an empty table", "nothing")

LEAST, MOST = 0.02, 0.98  # share of the picture an object covers
COMPONENT = 0.01  # smaller components are specks
BAND = 0.03  # width of the border, of the shorter side
BORDER_LIMIT = 0.5  # an object fills the border at most half as densely as the rest; a texture fills both
CONTRAST = 3.0  # an object differs from the border's colour this many times more than the border itself does

AGREE = 0.5  # intersection over union from which CLIP and the colours mean the same object

Mode = Literal["clip", "otsu", "whole"]
Source = Literal["clip", "clip+otsu", "otsu", "whole"]


@dataclass(frozen=True)
class ObjectMask:
    """bool [H, W], and which source it came from."""

    mask: np.ndarray
    source: Source


def object_mask(picture: np.ndarray, similarity: np.ndarray | None, mode: Mode) -> ObjectMask:
    """The object of a picture float32 [H, W, 3].

    Args:
        picture: in 0..1.
        similarity: [grid, grid] from `similarity_maps`; needed for mode `clip`, else ignored.
        mode: the first source to try.
    """
    shape = picture.shape[:2]
    if mode == "whole":
        return ObjectMask(np.ones(shape, dtype=bool), "whole")
    colour = from_border_colour(picture)
    coloured = plausible(colour)
    if mode == "clip" and similarity is not None:
        seen = from_similarity(similarity, shape)
        if plausible(seen) and not coloured:
            return ObjectMask(seen, "clip")
        if plausible(seen) and (seen & colour).sum() >= AGREE * (seen | colour).sum():
            return ObjectMask(colour, "clip+otsu")
    if coloured:
        return ObjectMask(colour, "otsu")
    return ObjectMask(np.ones(shape, dtype=bool), "whole")


def word_direction(backbone: Backbone, words: str) -> Tensor:
    """Object minus background in the joint space: [D]; patches are compared with it."""
    things = F.normalize(encode_words(backbone, [form.format(words) for form in OBJECT]), dim=-1)
    grounds = F.normalize(encode_words(backbone, list(BACKGROUND)), dim=-1)
    return F.normalize(things.mean(dim=0), dim=-1) - F.normalize(grounds.mean(dim=0), dim=-1)


@torch.no_grad()
def similarity_maps(patches: Tensor, direction: Tensor, grid: int) -> np.ndarray:
    """Patch features [B, N, D] along `word_direction` → float32 [B, grid, grid]."""
    maps: np.ndarray = (
        (patches @ direction).reshape(len(patches), grid, grid).cpu().numpy().astype(np.float32)
    )
    return maps


def from_similarity(similarity: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Otsu's threshold on a min-max scaled map, enlarged to `shape`, specks removed: bool [H, W]."""
    low, high = float(similarity.min()), float(similarity.max())
    if high - low < 1e-6:
        return np.zeros(shape, dtype=bool)
    scaled = (similarity - low) / (high - low)
    level = float(threshold_otsu(scaled))
    small = torch.from_numpy(scaled)[None, None]
    large = F.interpolate(small, size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    return _without_specks(large > level)


def from_border_colour(picture: np.ndarray) -> np.ndarray:
    """What differs clearly from the border's median colour (Otsu), holes filled: bool [H, W]."""
    border = _border(picture.shape[:2])
    soft = ndimage.gaussian_filter(picture, (1.5, 1.5, 0))
    apart = np.linalg.norm(soft - np.median(soft[border], axis=0), axis=-1)
    nothing = np.zeros(picture.shape[:2], dtype=bool)
    if float(apart.max() - apart.min()) < 0.02:
        return nothing
    differs = ndimage.binary_opening(apart > threshold_otsu(apart), iterations=2)
    found = _without_specks(ndimage.binary_fill_holes(differs))
    if not found.any() or np.median(apart[found]) < CONTRAST * np.median(apart[border]):
        return nothing
    return found


def plausible(mask: np.ndarray) -> bool:
    """Whether a mask looks like an object on a background: not nothing, not everything, off the border."""
    share = float(mask.mean())
    if not LEAST <= share <= MOST:
        return False
    border = _border(mask.shape)
    return float(mask[border].mean()) <= BORDER_LIMIT * float(mask[~border].mean())


def _border(shape: tuple[int, ...]) -> np.ndarray:
    width = max(2, round(BAND * min(shape)))
    border = np.ones(shape, dtype=bool)
    border[width:-width, width:-width] = False
    return border


def _without_specks(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel()) > COMPONENT * mask.size
    keep[0] = False
    kept: np.ndarray = keep[labels]
    return kept
