"""A small workspace with one data set of two categories: pictures and a manifest; a random tiny CLIP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline.clip.registry import model_config
from flawline.files import sha256_file, write_parquet
from flawline.settings import Settings, load_settings
from flawline.workspace import Workspace


def picture(seed: int, width: int = 60, height: int = 44) -> Image.Image:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    body = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2
    values = np.where(body, 180, 50)[..., None] + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.fixture
def small(workspace: Workspace) -> Workspace:
    """`workspace` with data set `parts`; a category: 3 good to train, 1 good and 2 flawed to test."""
    rows: list[dict[str, Any]] = []
    seed = 0
    for category in ("bolt", "größe m8"):
        for split, defect, count in (("train", "good", 3), ("test", "good", 1), ("test", "scratch", 2)):
            for number in range(count):
                seed += 1
                image = f"parts/{category}/{split}/{defect}/{number:03d}.png"
                path = workspace.data / image
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(seed).save(path)
                rows.append(
                    {
                        "dataset": "parts",
                        "category": category,
                        "split": split,
                        "defect": defect,
                        "label": int(defect != "good"),
                        "image": image,
                        "mask": None if defect == "good" else image.replace("test", "ground_truth"),
                        "width": 60,
                        "height": 44,
                        "sha256": sha256_file(path),
                        "problem": None,
                    }
                )
    table = pd.DataFrame(rows).sort_values(["dataset", "category", "split", "defect", "image"])
    write_parquet(workspace.manifest, table.astype({"label": "int8", "width": "int32", "height": "int32"}))
    return workspace


@pytest.fixture
def change_settings() -> Callable[..., Settings]:
    """`change_settings(section={…})`: the repository's params, a random CLIP of 4×4 patches, and changes."""
    path = Path(__file__).resolve().parent.parent.parent / "params.yaml"
    patch = model_config("flawline-tiny")["vision_cfg"]["patch_size"]

    def change(**sections: dict[str, Any]) -> Settings:
        raw = load_settings(path).model_dump()
        raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": 4 * patch, "seed": 0}
        for section, values in sections.items():
            raw[section] |= values
        return Settings.model_validate(raw)

    return change


@pytest.fixture
def synthetic(small: Workspace) -> Workspace:
    """A hand-made synthetic set: three pictures, a thin line as mask; listed out of order."""
    folder = small.synth("parts")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 255, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / "images" / f"{number:05d}.png")
        mask = np.zeros((128, 128), np.uint8)
        mask[30 + number, 20:90] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{number:05d}.png")
    rows = [(f"{n:05d}.png", "parts/bolt/train/good/000.png", "bolt", "line", 0.01) for n in (2, 0, 1)]
    table = pd.DataFrame(rows, columns=["file", "source", "category", "noise", "area"])
    write_parquet(folder / "index.parquet", table)
    return small
