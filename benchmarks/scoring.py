"""Scoring picture files against the bare image tower: what a prompt set costs beyond open_clip's `encode_image`.

The bare side encodes one batch that is ready in memory and reads no patches. The other sides score as many picture
files: decoding, squashing, normalising, the image path, comparing with the folded texts, maps, smoothing. Random
weights. One thread, and what counts is processor time: on a machine that others use too, waiting for them would be
measured otherwise, and the thread that prepares the next batch earns nothing: on idle cores the ratio is higher.

    python -m benchmarks.scoring [rounds] [images]
    python -m benchmarks.scoring sizes                  # for the plot: pictures of growing side
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.harness import in_turn, record

if TYPE_CHECKING:
    from flawline.clip.backbone import Backbone
    from flawline.detector import Detector

BACKBONE, BATCH, SIDE = "ViT-B-16-plus-240", 8, 1024
#: image paths; `laa_half` starts its local stream in the middle of the tower, the others in the first block
PATHS: dict[str, dict[str, object]] = {
    "plain": {},
    "vv": {"attention": "vv"},
    "laa": {"attention": "vv", "radius": 2},
    "laa_half": {"attention": "vv", "first_block": 0.5, "radius": 2},
}
NARROW = "laa_narrow"


def make_pictures(folder: Path, count: int, side: int = SIDE) -> list[Path]:
    """JPEG files of side x side pixels."""
    import numpy as np
    from PIL import Image

    from flawline.render.samples import SETS, draw_good

    files = []
    for number in range(count):
        drawn = draw_good(SETS["castings"]["bracket"], number).picture
        picture = Image.fromarray(np.uint8(255 * drawn.clip(0, 1))).resize((side, side))
        files.append(folder / f"{number:03d}.jpg")
        picture.save(files[-1], quality=90)
    return files


def detectors(backbone: "Backbone") -> dict[str, "Detector"]:
    """A `human_free` prompt set on each image path; the last one with the narrow last block of `--fast`."""
    from flawline.clip.image_path import resolve_paths
    from flawline.detector import Detector
    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.base import MAIN
    from flawline.serve.encoder import Encoder, Plan
    from flawline.settings import ImagePath

    paths = resolve_paths(backbone, {name: ImagePath.model_validate(path) for name, path in PATHS.items()})
    found = {}
    for name in (*PATHS, NARROW):
        path = name.removesuffix("_narrow")
        options = method_options("human_free", {"image_path": path, "smoothing": 6.0})
        method = method_class("human_free")(backbone, options, 0).eval()
        found[name] = Detector(method, {MAIN: paths[path]}, {"threshold": {"value": 0.5}})
        found[name].batch = BATCH
    narrow = found[NARROW]
    narrow.use(Encoder(narrow.method, narrow.paths, BATCH, Plan(narrow=True)))
    return found


def score_files(detector: "Detector", files: list[Path]) -> object:
    """What `flawline score` does with picture files, less its table."""
    from flawline.data.images import load_rgb

    return detector.score(load_rgb(file) for file in files)


def measure(rounds: int, images: int, side: int = SIDE, only: Sequence[str] = ()) -> dict[str, float]:
    """Median processor seconds of `images` pictures: `bare`, and each detector (or those named)."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from flawline.clip.backbone import load_backbone
    from flawline.settings import BackboneSettings

    backbone = load_backbone(BackboneSettings(name=BACKBONE, weights="none"), Path())
    ready = torch.randn(BATCH, 3, backbone.image_size, backbone.image_size)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(0, images, BATCH):
                backbone.model.encode_image(ready)

    with tempfile.TemporaryDirectory() as folder:
        files = make_pictures(Path(folder), images, side)
        sides: dict[str, Callable[[], object]] = {"bare": bare}
        for name, detector in detectors(backbone).items():
            if not only or name in only:
                sides[name] = partial(score_files, detector, files)
        # The first round warms up, and folds the texts.
        return in_turn(sides, rounds, warm=1, clock=time.process_time)


def sizes() -> None:
    """Processor time an image against the picture's side, for the plot of docs/performance.md."""
    rows = []
    for side in (256, 512, 1024, 2048, 4096):
        took = measure(2, BATCH, side, ("plain", "laa"))
        rows.append({"picture side": side, **{name: round(1e3 * s / BATCH, 1) for name, s in took.items()}})
        print(rows[-1], flush=True)
    record("scoring", {}, sizes=rows)


def main(rounds: int = 3, images: int = BATCH) -> None:
    """Measure in turn, print, record."""
    took = measure(rounds, images)
    for name, seconds in took.items():
        print(f"{name:12s} {1e3 * seconds / images:7.0f} ms of processor an image", flush=True)
    ratios = {name: took["bare"] / seconds for name, seconds in took.items() if name != "bare"}
    record(
        "scoring",
        {"scoring_vs_bare_encoder" + f"_{name}" * (name != "plain"): ratio for name, ratio in ratios.items()},
        backbone=BACKBONE,
        batch=BATCH,
        images=images,
        picture_side=SIDE,
        rounds=rounds,
        threads=int(os.environ["OMP_NUM_THREADS"]),
        paths=PATHS,
        processor_ms_an_image={name: round(1e3 * seconds / images, 1) for name, seconds in took.items()},
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["sizes"]:
        sizes()
    else:
        main(*(int(argument) for argument in sys.argv[1:3]))
