"""From files to rows of a feature folder: read, preprocess, one CLIP pass a batch for all image paths."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.data.images import load_rgb
from flawline.errors import FlawlineError
from flawline.features.store import FeatureArrays
from flawline.progress import track
from flawline.settings import FeatureSettings

# A pixel of a reduced mask counts as marked when this share of its area is: thin scratches must survive.
MASK_SHARE = 0.25


@dataclass(frozen=True)
class Item:
    """One image to encode, and its mask where it has one that shall be stored."""

    image: Path
    mask: Path | None = None


def encode_items(
    items: list[Item],
    backbone: Backbone,
    settings: FeatureSettings,
    arrays: FeatureArrays,
    what: str,
    max_pixels: int,
) -> None:
    """Fill the rows of `arrays`, item i into row i.

    Args:
        items: in row order.
        backbone: the frozen CLIP.
        settings: paths and batch size.
        arrays: open arrays of the folder.
        what: words for the progress bar.
        max_pixels: cap of one image, read from its header.
    """
    starts = range(0, len(items), settings.batch)
    for start in track(starts, what):
        part = items[start : start + settings.batch]
        rows = slice(start, start + len(part))
        images = torch.stack([backbone.preprocess(load_rgb(item.image, max_pixels)) for item in part])
        for name, encoded in encode_image(backbone, images, settings.paths).items():
            arrays.cls[name][rows] = encoded.cls.cpu().numpy()
            arrays.patches[name][rows] = encoded.patches.cpu().numpy()
        if arrays.masks is not None:
            for row, item in enumerate(part, start):
                if item.mask is not None:
                    arrays.masks[row] = load_small_mask(item.mask, backbone.image_size)


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
