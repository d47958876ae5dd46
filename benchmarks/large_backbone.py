"""Every method once on a large backbone: one tuning step and one scoring pass, with time and peak memory of each.

Weights are random, so scores mean nothing: this shows that the sizes of the papers (ViT-L-14-336-quickgelu at 518 px)
fit into memory. Each method runs in a process of its own, so that its peak is its own. The images are rendered here.

    python benchmarks/large_backbone.py [METHOD…] [--backbone NAME] [--size 518] [--threads 2]
"""

import argparse
import json
import resource
import subprocess
import sys
import time

#: options that the papers' size asks for; what is not named here is the method's default
PATHS = {
    "vv": {"attention": "vv", "first_block": 0.25, "levels": [0.25, 0.5, 0.75, 1.0], "image_norm": False},
    "taps": {"attention": "plain", "levels": [0.25, 0.67], "space": "tower"},
}
OPTIONS: dict[str, dict[str, object]] = {
    "patch_memory": {"image_path": "taps", "shots": 1},
    "promptad": {"memory_path": "taps", "shots": 1, "epochs": 1},
    "winclip": {"shots": 1},
    "apt": {"rounds": 1, "steps": 1},
}
IMAGES = 2  # one good, one anomalous


def run(method_name: str, backbone_name: str, size: int, threads: int) -> dict[str, object]:
    """One method in this process."""
    import torch

    torch.set_num_threads(threads)
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from flawline.clip.backbone import load_backbone
    from flawline.clip.image_path import encode_image, resolve_paths
    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.base import MAIN
    from flawline.prompts.shared.batches import Inputs
    from flawline.render.samples import SETS, draw_flawed, draw_good
    from flawline.settings import BackboneSettings, ImagePath
    from flawline.tune.loop import TuningData, tune

    settings = BackboneSettings(name=backbone_name, weights="none", image_size=size, seed=0)
    backbone = load_backbone(settings, Path())
    known = method_class(method_name).Options.model_fields
    raw = {"image_path": "vv"} | {k: v for k, v in {"epochs": 1, "batch": IMAGES}.items() if k in known}
    method = method_class(method_name)(
        backbone, method_options(method_name, raw | OPTIONS.get(method_name, {})), 0
    )
    look = SETS["castings"]["bracket"]
    good, flawed = draw_good(look, 0).picture, draw_flawed(look, "scratch", 1)
    pictures = [Image.fromarray(np.uint8(255 * picture)) for picture in (good, flawed[0])]
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures])
    mask = torch.tensor(np.asarray(Image.fromarray(flawed[1]).resize((size, size))))
    paths = resolve_paths(backbone, {name: ImagePath.model_validate(PATHS[name]) for name in PATHS})
    asked = {role: paths[name] for role, name in method.paths().items()}
    seconds: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = round(time.perf_counter() - started, 1)

    started = time.perf_counter()
    with torch.no_grad():
        read = encode_image(backbone, pixels, asked)
    inputs = Inputs(
        cls=read[MAIN].cls,
        patches=read[MAIN].patches,
        nouns=["bracket"] * IMAGES,
        more={role: encoded.patches for role, encoded in read.items() if role != MAIN},
        categories=["bracket"] * IMAGES,
        pixels=pixels if method.reads_pixels else None,
    )
    timed("encode", started)
    started = time.perf_counter()
    if method.needs_support:
        method.remember(inputs.rows(torch.tensor([0])))
    masks = torch.stack([torch.zeros_like(mask), mask])
    data = TuningData(inputs, masks, torch.tensor([0, 1]), ["good", "line"], (lambda rows: pixels[rows]))
    steps = len({step for _, step, _, _ in tune(method, data, 0)})
    timed("tune", started)
    method.unfold()
    started = time.perf_counter()
    scores, maps = method.score(inputs, size)
    timed("score", started)
    assert bool(torch.isfinite(scores).all()) and maps.shape == (IMAGES, size, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"method": method_name, "steps": steps, **seconds, "peak_gib": round(peak, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--backbone", default="ViT-L-14-336-quickgelu")
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="in this process, one method, prints JSON")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(run(asked.methods[0], asked.backbone, asked.size, asked.threads)))
        return
    from flawline.prompts import method_names

    print(f"{asked.backbone}, {asked.size} px, {IMAGES} images, {asked.threads} threads; seconds and GiB")
    print("| method | steps | encode s | tune s | score s | peak GiB |\n|---|---|---|---|---|---|")
    for name in asked.methods or method_names():
        command = [sys.executable, __file__, name, "--here", "--backbone", asked.backbone]
        command += ["--size", str(asked.size), "--threads", str(asked.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print("| " + " | ".join(str(value) for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
