"""The miniature line with a data folder: its images decide what is evaluated, and a little of what is tuned.

Imported by the tests it makes such a workspace; run as a script it is the stages of its dvc.yaml.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import small_line

SETS = ("boards", "castings", "fabrics")
CATEGORIES = ("nut", "schraube ü")


def make_workspace(root: Path, **schedule: object) -> Path:
    """A DVC workspace with data under version, nothing run yet; it uses this checkout's flows.

    Args:
        root: where; its name is the work pool's as well.
        schedule: keys of that section of params.yaml.
    """
    from dvc.repo import Repo

    checkout = Path(__file__).resolve().parents[3]
    small_line.make_workspace(root)
    with (root / "params.yaml").open("a", encoding="utf-8") as params:
        params.write(f"schedule: {json.dumps({'work_pool': root.name, **schedule})}\n")
    (root / "data_line.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (root / ".dvcignore").write_text(
        "/.state\n/flows\n/mlflow\n"
    )  # there is no git here that would ignore it
    text = small_line.DVC_YAML.replace(" small_line.py ", " data_line.py ")
    text = text.replace("deps: [small_line.py, quality.json]", "deps: [small_line.py, quality.json, data]")
    text = text.replace("quality.json, out/prompts]", "quality.json, out/prompts, out/manifest.parquet]")
    (root / "dvc.yaml").write_text(text)
    for name in ("flows", "mlflow"):
        (root / name).symlink_to(checkout / name)
    for dataset in SETS:
        for category in CATEGORIES:
            draw(root / "data" / dataset / category / "train" / "good", 4)
            draw(root / "data" / dataset / category / "test" / "good", 12)
            draw(root / "data" / dataset / category / "test" / "crack", 12)
    with Repo(str(root)) as repo:
        repo.add([str(root / "data")])
    return root


def draw(folder: Path, number: int) -> None:
    """So many tiny pictures, no two alike."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    seed = [*str(folder).partition("/data/")[2].encode()]
    pixels = np.random.default_rng(seed).integers(0, 256, (number, 8, 8, 3), np.uint8)
    for k, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{k:03d}.png")


def tune() -> None:
    """As the miniature line tunes, but more images make slightly better prompts, and the image table is a real one."""
    from flawline.data.manifest import build_manifest
    from flawline.files import write_parquet

    time.sleep(float(os.environ.get("DATA_LINE_SLEEP", 0)))
    table = build_manifest(Path("data"), list(SETS))
    write = small_line.write_prompt_set

    def better(folder: Path, method: str, seed: int, how: float) -> Path:
        return write(folder, method, seed, how + (len(table) / 1e5 if method == "learned" else 0))

    small_line.write_prompt_set = better
    small_line.tune()
    write_parquet(Path("out/manifest.parquet"), table)


def scored(test: str, quality: float, seed: int) -> tuple[Any, ...]:
    """A features index, scores and maps of the images that the table has."""
    import pandas as pd

    table = pd.read_parquet("out/manifest.parquet")
    table = table[(table["dataset"] == test) & (table["split"] == "test")]
    index = table[["image", "category", "defect", "label"]].reset_index(drop=True)
    rng, gap, side = np.random.default_rng([seed, len(test)]), 6 * (quality - 0.5), small_line.SIDE
    scores, maps, masks = [], [], []
    for label in index["label"]:
        mask = np.zeros((side, side), bool)
        mask[2:5, 2:5] = bool(label)
        scores.append(rng.normal(gap * label))
        maps.append(rng.normal(size=(side, side)) + gap * mask)
        masks.append(mask if label else None)
    return index, np.array(scores), np.array(maps, dtype=np.float32), masks


if __name__ == "__main__":
    print(f"{' '.join(sys.argv[1:])} begins", flush=True)
    small_line.scored = scored
    stages = {"tune": tune, "evaluate": small_line.evaluate, "compare": small_line.compare}
    {**stages, "report": small_line.report}[sys.argv[1]](*sys.argv[2:])
