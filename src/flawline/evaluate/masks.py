"""Masks of test images, in the geometry the model saw."""

import numpy as np
import pandas as pd
from PIL import Image

from flawline.data.images import DEFAULT_MAX_PIXELS, load_mask
from flawline.files import inside
from flawline.workspace import Workspace


def resize_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """Stretch a mask to a square: each target pixel averages what it covers and is defect above 0.5.

    A defect so thin that no target pixel is half covered keeps the pixels it covers most (more than half of
    the best-covered one's share); else a scratch would count as good pixels.

    Args:
        mask: [height, width] bool at native size.
        side: pixels.

    Returns:
        [side, side] bool; all false only where `mask` is.
    """
    picture = Image.fromarray(mask.astype(np.float32))
    share = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
    return share > min(0.5, float(share.max()) / 2)


def read_masks(
    index: pd.DataFrame, workspace: Workspace, side: int, max_pixels: int = DEFAULT_MAX_PIXELS
) -> list[np.ndarray | None]:
    """The mask of each row of a features index.

    Args:
        index: label (0/1) and mask (POSIX path relative to data/, or null).
        workspace: holds data/.
        side: pixels of the square the masks are brought to.
        max_pixels: larger masks are refused.

    Returns:
        [side, side] bool a row; None for good images and where there is no file.

    Raises:
        FlawlineError: a mask is missing, broken or outside data/; the message names it.
    """
    rows = list(zip(index["label"], index["mask"], strict=True))
    return [
        resize_mask(load_mask(inside(workspace.data, mask), max_pixels), side)
        if label == 1 and isinstance(mask, str)
        else None
        for label, mask in rows
    ]
