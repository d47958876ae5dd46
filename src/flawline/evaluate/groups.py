"""Which test images belong together, as the image table says."""

from collections.abc import Iterable

import numpy as np
import pandas as pd


def groups_of(images: Iterable[str], manifest: pd.DataFrame) -> np.ndarray | None:
    """The group of each image, for `resample`.

    Args:
        images: [n] paths as they stand in the image table.
        manifest: the image table; its column `group` names images that are no independent evidence (views of one part,
            near-duplicates) and is null for all others.

    Returns:
        [n] object: category and name (parts of two products may be numbered alike), None for an image without group;
        None where no image has one.
    """
    if "group" not in manifest.columns:
        return None
    named = manifest[manifest["group"].notna() & (manifest["group"].astype(str) != "")]
    names = named["category"].astype(str) + "/" + named["group"].astype(str)
    known = dict(zip(named["image"], names, strict=True))
    found = [known.get(image) for image in images]
    if not any(found):
        return None
    groups = np.empty(len(found), dtype=object)
    groups[:] = found
    return groups
