"""Which good images a few-shot method may look at: drawn by seed and hash, so that they can be named."""

import hashlib

import torch
from torch import Tensor

from flawline.errors import FlawlineError
from flawline.features.store import FeatureSet


def draw_support(features: FeatureSet, shots: int, seed: int) -> Tensor:
    """Rows int64 of `shots` good images of each category, in the order of categories.

    The draw depends on the seed and the images' hashes alone, not on names or listing order; fewer shots are a part
    of more shots of the same seed.

    Args:
        features: the support folder of a test set (`features.support` images a category), or a training part,
            of which only the good images count.
        shots: images a category.
        seed: of the prompt set.

    Raises:
        FlawlineError: a category has fewer good images.
    """
    index = features.index[features.index["label"] == 0]
    rank = [hashlib.sha256(f"{seed}/{sha256}".encode()).hexdigest() for sha256 in index["sha256"]]
    ordered = index.assign(rank=rank).sort_values(["category", "rank"])
    few = ordered.groupby("category").size()
    if few.empty or few.min() < shots:
        have = f"{few.min()} of category {few.idxmin()}" if len(few) else "none"
        raise FlawlineError(
            f"{features.folder}: {shots} good images a category are asked for, there are {have}",
            "add good training images to the data set, raise features.support, or lower the method's shots",
        )
    return torch.tensor(ordered.groupby("category").head(shots)["row"].to_numpy("int64"))
