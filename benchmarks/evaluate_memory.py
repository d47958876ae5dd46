"""Peak memory of the evaluate stage at 5,000 test images against 500.

A workspace is made for each size: random features of the embedded architecture (random weights, 64 pixels a side, so
that 5,000 images take minutes on two cores; every array of the stage that could grow grows with the number of images,
none with their side), masks and pictures as files, one category with two defect types, half of the images defective.
The stage runs in a process of its own, with the settings of params.yaml; its peak resident memory is what the system
says.

    python -m benchmarks.evaluate_memory [few] [many]
    python -m benchmarks.evaluate_memory sizes          # for the plot: 250 to 5,000 images
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.harness import record

ROOT = Path(__file__).resolve().parent.parent
SIDE, TEST, CATEGORY = 64, "boards", "pcb"
_CHILD = """
import json, resource, sys, time
from pathlib import Path
from flawline.settings import load_settings
from flawline.stages import evaluate
from flawline.workspace import Cell, Workspace
workspace = Workspace(Path(sys.argv[1]))
start = time.perf_counter()
evaluate.run(workspace, load_settings(workspace.params), Cell("human_free", "castings", 0), sys.argv[2])
kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(json.dumps({"mib": kib / 1024, "seconds": time.perf_counter() - start}))
"""


def make(root: Path, count: int) -> None:
    """A workspace with `count` test images, their features and an untrained prompt set."""
    from flawline.clip.backbone import load_backbone
    from flawline.clip.image_path import resolve_paths
    from flawline.features.store import write_features
    from flawline.files import write_parquet
    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.prompt_set import save_prompt_set
    from flawline.settings import load_settings
    from flawline.workspace import Cell, Workspace

    yaml = YAML(typ="safe", pure=True)
    raw = yaml.load(ROOT / "params.yaml")
    raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": SIDE, "seed": 1}
    yaml.dump(raw, root / "params.yaml")
    (root / "vocabulary.yaml").write_bytes((ROOT / "vocabulary.yaml").read_bytes())
    workspace, settings = Workspace(root), load_settings(root / "params.yaml")
    index = _images(workspace.data, count)
    write_parquet(workspace.manifest, index)
    backbone = load_backbone(settings.backbone, ROOT)
    random = np.random.default_rng(0)
    rows = index.assign(row=range(count), synthetic=False)
    with write_features(workspace.features("test", TEST), rows, backbone, settings.features, False) as arrays:
        for held in (*arrays.cls.values(), *arrays.patches.values()):
            for row in range(count):
                values = random.normal(size=held.shape[1:])
                held[row] = values / np.linalg.norm(values, axis=-1, keepdims=True)
    options = method_options("human_free", settings.methods["human_free"])
    method = method_class("human_free")(backbone, options, 0)
    path = resolve_paths(backbone, settings.features.paths)[options.image_path]
    card = {
        "method": "human_free", "backbone": backbone.card(), "options": options.model_dump(), "seed": 0,
        "image_paths": {"main": path.model_dump()}, "train_set": "castings", "train_sha256": [],
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
    }  # fmt: skip
    save_prompt_set(workspace.prompts(Cell("human_free", "castings", 0)), method, card)


def _images(data: Path, count: int) -> pd.DataFrame:
    """The image table; every file is a link to one of two pictures and two masks."""
    kinds = ("good", "scratch", "good", "dent")
    rows = []
    first: dict[str, Path] = {}
    for number in range(count):
        kind = kinds[number % 4]
        bad = kind != "good"
        image = f"{TEST}/{CATEGORY}/test/{kind}/{number:05d}.png"
        mask = f"{TEST}/{CATEGORY}/ground_truth/{kind}/{number:05d}_mask.png" if bad else None
        for name in (image, mask):
            if name is None:
                continue
            path = data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            key = f"{kind} {name == mask}"
            if key in first:
                os.link(first[key], path)
                continue
            pixels = np.full((SIDE, SIDE), 90, np.uint8)
            if name == mask:
                pixels[:] = 0
                pixels[10:30, 20 : 30 if kind == "dent" else 50] = 255
            Image.fromarray(pixels).save(path)
            first[key] = path
        rows.append({
            "dataset": TEST, "category": CATEGORY, "split": "test", "defect": kind, "label": int(bad), "image": image,
            "mask": mask, "width": SIDE, "height": SIDE, "sha256": f"{number:064x}", "problem": None, "group": None,
        })  # fmt: skip
    return pd.DataFrame(rows)


def peak(count: int, folder: Path) -> dict[str, float]:
    """Peak memory in MiB and seconds of the stage at `count` images."""
    root = folder / str(count)
    root.mkdir()
    # A process begins with the peak of the one that starts it: this one must stay small.
    subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluate_memory", "make", str(root), str(count)], check=True
    )
    told = subprocess.run(
        [sys.executable, "-c", _CHILD, str(root), TEST],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    found: dict[str, float] = json.loads(told.stdout)
    print(f"{count} images: peak {found['mib']:.0f} MiB, {found['seconds']:.0f} s", flush=True)
    return found


def main(few: int = 500, many: int = 5000) -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory(prefix="flawline-memory-") as folder:
        one, other = peak(few, Path(folder)), peak(many, Path(folder))
    print(f"maps of {SIDE} x {SIDE} pixels (map_size of the made workspaces)")
    record(
        "evaluate_memory",
        {f"evaluate_memory_{many}_vs_{few}": other["mib"] / one["mib"]},
        side=SIDE,
        peak_mib={str(few): round(one["mib"]), str(many): round(other["mib"])},
        seconds={str(few): round(one["seconds"], 1), str(many): round(other["seconds"], 1)},
    )


def sizes() -> None:
    """Peak memory against the number of images, for the plot of docs/performance.md."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="flawline-memory-") as folder:
        for count in (250, 500, 1000, 2500, 5000):
            found = peak(count, Path(folder))
            rows.append(
                {"images": count, "peak MiB": round(found["mib"]), "seconds": round(found["seconds"], 1)}
            )
    record("evaluate_memory", {}, sizes=rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["sizes"]:
        sizes()
    elif sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*(int(argument) for argument in sys.argv[1:3]))
