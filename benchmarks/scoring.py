"""Scoring picture files against the bare image tower: what a prompt set costs beyond open_clip's `encode_image`.

The bare side encodes one batch that is ready in memory and reads no patches. The other sides score as many picture
files: decoding, squashing, normalising, the image path, comparing with the folded texts, maps, smoothing. Random
weights. One thread, and what counts is processor time: on a machine that others use too, waiting for them would be
measured otherwise, and the thread that prepares the next batch earns nothing: on idle cores the ratio is higher.

    python -m benchmarks.scoring [rounds] [images]
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.harness import record

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


def make_pictures(folder: Path, count: int) -> list[Path]:
    """JPEG files of SIDE x SIDE pixels."""
    import numpy as np
    from PIL import Image

    from flawline.render.samples import SETS, draw_good

    files = []
    for number in range(count):
        drawn = draw_good(SETS["castings"]["bracket"], number).picture
        picture = Image.fromarray(np.uint8(255 * drawn.clip(0, 1))).resize((SIDE, SIDE))
        files.append(folder / f"{number:03d}.jpg")
        picture.save(files[-1], quality=90)
    return files


def detectors(backbone: "Backbone") -> dict[str, "Detector"]:
    """A `human_free` prompt set on each image path; the last one with the narrow last block of `--fast`."""
    from flawline.clip.image_path import resolve_paths
    from flawline.detector import Detector
    from flawline.prompts import method_class, method_options
    from flawline.prompts.base import MAIN
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


def main(rounds: int = 3, images: int = BATCH) -> None:
    """Measure in turn, print, record."""
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
        files = make_pictures(Path(folder), images)
        sides: dict[str, Callable[[], object]] = {"bare": bare}
        for name, detector in detectors(backbone).items():
            sides[name] = partial(score_files, detector, files)
        processor: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1 + rounds):
            for name, run in sides.items():
                start = time.process_time()
                run()
                if number:  # the first round warms up, and folds the texts
                    processor[name].append(time.process_time() - start)
    took = {name: statistics.median(seconds) for name, seconds in processor.items()}
    for name, seconds in took.items():
        print(f"{name:12s} {1e3 * seconds / images:7.0f} ms of processor an image", flush=True)
    ratios = {name: took["bare"] / took[name] for name in sides if name != "bare"}
    record(
        "scoring",
        {"scoring_vs_bare_encoder" + f"_{name}" * (name != "plain"): ratio for name, ratio in ratios.items()},
        backbone=BACKBONE,
        batch=BATCH,
        images=images,
        picture_side=SIDE,
        rounds=rounds,
        threads=torch.get_num_threads(),
        paths=PATHS,
        processor_ms_an_image={name: round(1e3 * seconds / images, 1) for name, seconds in took.items()},
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
