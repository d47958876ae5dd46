"""Evaluation folders read back: one method on one test set, all its seeds on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flawline.errors import FlawlineError
from flawline.evaluate.bootstrap import PairedResult, paired_image_auroc, paired_pixel_auroc
from flawline.evaluate.groups import groups_of
from flawline.evaluate.histograms import PixelHistograms
from flawline.files import read_parquet

IDENTITY = ["image", "category", "defect", "label"]


@dataclass(frozen=True)
class Stored:
    """Scores of n images by s seeds, sorted by image so that no draw depends on the order of rows.

    Attributes:
        images: columns IDENTITY.
        scores: [s, n] float64.
        histograms: one a seed.
    """

    images: pd.DataFrame
    scores: np.ndarray
    histograms: list[PixelHistograms]


def read_stored(folders: Sequence[Path]) -> Stored:
    """Read the evaluation folders of one method's seeds.

    Raises:
        FlawlineError: a file is missing or broken, or the folders are not of the same images.
    """
    first: pd.DataFrame | None = None
    scores, histograms = [], []
    for folder in folders:
        table, order = _by_image(folder)
        images = table[IDENTITY]
        if first is not None:
            require_same_images(first, images, folders[0], folder)
        first = images if first is None else first
        scores.append(table["image_score"].to_numpy(dtype=np.float64))
        histograms.append(read_histograms(folder, len(table)).rows(order))
    assert first is not None, "at least one folder"
    return Stored(first, np.stack(scores), histograms)


def compare_folders(
    challenger: Path,
    champion: Path,
    metric: str,
    samples: int,
    seed: int,
    manifest: pd.DataFrame | None = None,
) -> PairedResult | None:
    """Two evaluation folders of the same images by a paired bootstrap; None where the metric cannot be computed.

    Args:
        challenger, champion: one prompt set each.
        metric: `image_auroc` or `pixel_auroc`.
        samples, seed: of the bootstrap.
        manifest: names the groups of images that are drawn together.

    Raises:
        FlawlineError: a file is missing or broken, or the folders are of other images.
    """
    require_same_images(_by_image(challenger)[0], _by_image(champion)[0], challenger, champion)
    one, other = read_stored([challenger]), read_stored([champion])
    labels, categories = one.images["label"].to_numpy(), one.images["category"].to_numpy(dtype=str)
    if one.images.groupby("category")["label"].nunique().max() < 2:
        return None  # good images alone, or defective ones, rank nothing
    groups = None if manifest is None else groups_of(one.images["image"], manifest)
    if metric == "image_auroc":
        return paired_image_auroc(
            labels, categories, one.scores[0], other.scores[0], samples, seed, groups=groups
        )
    maps = (one.histograms[0], other.histograms[0])
    return paired_pixel_auroc(labels, categories, *maps, samples, seed, groups=groups)


def _by_image(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The scores sorted by image, and that order."""
    table = read_parquet(folder / "scores.parquet")
    order = np.argsort(table["image"].to_numpy(dtype=str), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    return table.astype({"image": str, "category": str, "defect": str, "label": int}), order


def require_same_images(one: pd.DataFrame, other: pd.DataFrame, first: Path, second: Path) -> None:
    """Raise FlawlineError unless two evaluations are of the same images with the same labels."""
    if not one[IDENTITY].equals(other[IDENTITY]):
        raise FlawlineError(
            f"{first} and {second} were not evaluated on the same images",
            "run the evaluate stage again (dvc repro)",
        )


def read_histograms(folder: Path, images: int) -> PixelHistograms:
    """The pixel histograms of an evaluation folder, rows as in its scores.parquet.

    Raises:
        FlawlineError: the file is missing, broken, or not of that many images.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "histograms.safetensors"
    try:
        held = load_file(path)
        histograms = PixelHistograms(held["normal"], held["anomalous"], held["edges"])
    except (OSError, KeyError, SafetensorError) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", "delete it and run its stage again") from error
    if len(histograms.normal) != images:
        raise FlawlineError(f"{path} does not belong to the scores beside it", "run their stage again")
    return histograms
