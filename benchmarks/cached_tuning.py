"""A tuning step on the warm feature store against the same step that encodes its images again.

Batch 8, AnomalyCLIP and FAPrompt with default options, at ViT-B-16-plus-240 (240 px) and ViT-L-14 (518 px), random
weights, path `vv` of params.yaml read after the last block. Both sides run in one process, in turn, on one thread; the
median of several steps counts, and of the two methods the lesser ratio. Seconds are processor seconds, so that others
on the machine do not decide. A step is what the tuning loop does: rows of the batch, forward, losses, backward,
optimiser. The other side also reads its images from PNG files of 1024 px, the size of MVTec AD's, as a loop without a
store has to; the ratio without the reading stands beside it under `details`.

The images are encoded as the features stage does it, by torch's own products; `--onednn` also measures a step whose
images are encoded by oneDNN's, as tuning does with its prompts and a plan of `--fast` scoring with images.

    python -m benchmarks.cached_tuning [b16] [l14] [--steps N] [--onednn]
    python -m benchmarks.cached_tuning sizes [--steps N]      # for the plot: ViT-B-16-plus at growing image sizes
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import in_turn, record

BATCH = 8
BACKBONES = {"b16": ("ViT-B-16-plus-240", 240), "l14": ("ViT-L-14", 518)}
METHODS = ("anomalyclip", "faprompt")
FILE_SIDE = 1024  # pixels
PATH = {"attention": "vv", "first_block": 1, "levels": [1.0], "image_norm": False}


def prepare(name: str, size: int, folder: Path) -> tuple[Any, Any, list[Path]]:
    """Backbone, training data as the tune stage reads it from a feature folder, and the files of its rows.

    The folder is filled twice: from the images, and then from the feature store alone, whose rows are the ones used.
    """
    import numpy as np
    import pandas as pd
    import torch
    from PIL import Image

    from flawline.clip.backbone import load_backbone
    from flawline.features import encode
    from flawline.features.cache import FeatureCache
    from flawline.features.store import INDEX_COLUMNS, FeatureSet, write_features
    from flawline.prompts.shared.batches import Inputs
    from flawline.render.samples import SETS, draw_flawed, draw_good
    from flawline.settings import BackboneSettings, FeatureSettings, ImagePath
    from flawline.tune.loop import TuningData

    backbone = load_backbone(BackboneSettings(name=name, weights="none", image_size=size), Path())
    look, items, rows = SETS["castings"]["bracket"], [], []
    for number in range(BATCH):
        label = int(number >= BATCH // 2)
        file, mask = folder / f"{number}.png", folder / f"{number}-mask.png"
        if label:
            picture, marked = draw_flawed(look, "scratch", number)[:2]
            Image.fromarray(marked).save(mask)
        else:
            picture = draw_good(look, number).picture
        Image.fromarray(np.uint8(255 * picture)).resize((FILE_SIDE, FILE_SIDE)).save(file)
        items.append(encode.Item(file, mask if label else None))
        rows.append(
            (number, file.name, "bracket", "scratch" if label else "good", label, None, "", bool(label))
        )
    index = pd.DataFrame(rows, columns=INDEX_COLUMNS)
    settings = FeatureSettings(paths={"vv": ImagePath.model_validate(PATH)}, batch=BATCH)
    cache = FeatureCache(folder / "store", 10**10)
    cold, encode_image = True, encode.encode_image
    for cold in (True, False):
        if not cold:
            encode.encode_image = _refuse  # the second time all comes from the store
        with write_features(folder / "features", index, backbone, settings, with_masks=True) as arrays:
            encode.encode_items(items, backbone, settings, arrays, "features", 10**8, cache)
    encode.encode_image = encode_image
    features = FeatureSet.open(folder / "features", backbone, settings.paths)
    data = TuningData(
        Inputs(torch.tensor(features.cls("vv")), torch.tensor(features.patches("vv"))),
        torch.tensor(features.masks) > 0,
        torch.tensor(index["label"].to_numpy("int64")),
        list(index["defect"]),
    )
    return backbone, data, [item.image for item in items]


def _refuse(*_: object) -> Any:
    raise AssertionError("the feature store was to have everything")


def steps(method_name: str, backbone: Any, data: Any, files: list[Path]) -> dict[str, Callable[[], object]]:
    """One tuning step on cached features; one that encodes its images again, also by oneDNN; reading them alone."""
    import torch

    from flawline.clip.image_path import encode_image
    from flawline.clip.products import onednn
    from flawline.data.images import load_rgb
    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.batches import Batch
    from flawline.settings import ImagePath
    from flawline.tune.loop import _optimiser, _step, _trained

    method = method_class(method_name)(backbone, method_options(method_name, {"image_path": "vv"}), 0)
    (stage,) = method.stages()
    parameters = _trained(method, stage)
    optimiser = _optimiser(stage, parameters)
    everything, paths = torch.arange(BATCH), {"vv": ImagePath.model_validate(PATH)}

    def step(batch: Batch) -> None:
        _step(method, stage, batch, parameters, optimiser)

    def cached() -> None:
        step(data.rows(everything))

    def reading() -> torch.Tensor:
        return torch.stack([backbone.preprocess(load_rgb(file)) for file in files])

    def encoding(by_onednn: bool = False) -> None:
        batch = data.rows(everything)
        with onednn(by_onednn):
            found = encode_image(backbone, reading(), paths)["vv"]
        step(Batch(replace(batch.inputs, cls=found.cls, patches=found.patches), batch.labels, batch.masks))

    cached()  # the optimiser's state and the library's buffers are made once
    return {
        "cached": cached,
        "encoding": encoding,
        "reading": reading,
        "encoding_onednn": lambda: encoding(by_onednn=True),
    }


def measure(name: str, size: int, count: int, by_onednn: bool = False) -> dict[str, dict[str, float]]:
    """Processor seconds of a step of each method, by side."""
    from flawline.determinism import make_torch_deterministic

    make_torch_deterministic(0, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        backbone, data, files = prepare(name, size, Path(folder))
        found = {}
        for method in METHODS:
            sides = steps(method, backbone, data, files)
            if not by_onednn:
                del sides["encoding_onednn"]
            found[method] = in_turn(sides, count, warm=0, clock=time.process_time)
        return found


def sizes(count: int) -> None:
    """Seconds a step against the image size, for the plot of docs/performance.md."""
    rows = []
    for size in (128, 192, 240, 320, 400):
        row: dict[str, float] = {"image size": size}
        for method, took in measure("ViT-B-16-plus-240", size, count).items():
            row |= {f"{method}, {side}": round(took[side], 3) for side in ("cached", "encoding")}
        rows.append(row)
        print(row, flush=True)
    record("cached_tuning", {}, sizes=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("backbones", nargs="*", help=f"of {', '.join(BACKBONES)}; default: all; or: sizes")
    parser.add_argument("--steps", type=int, default=5, help="measured steps a side")
    parser.add_argument("--onednn", action="store_true", help="also encode the images by oneDNN's products")
    given = parser.parse_args()
    if given.backbones == ["sizes"]:
        sizes(given.steps)
        return
    for short in given.backbones or BACKBONES:
        name, size = BACKBONES[short]
        ratios: dict[str, float] = {}
        told: dict[str, float | str] = {"backbone": name, "size": size, "steps": given.steps}
        for method, took in measure(name, size, given.steps, given.onednn).items():
            ratios[method] = took["encoding"] / took["cached"]
            told[f"ratio_{method}"] = round(ratios[method], 2)
            told[f"ratio_{method}_without_reading"] = round(
                (took["encoding"] - took["reading"]) / took["cached"], 2
            )
            if given.onednn:
                told[f"ratio_{method}_onednn"] = round(took["encoding_onednn"] / took["cached"], 2)
            print(
                f"{name} at {size} px, {method}: {took['cached']:.2f} s a step on cached features, "
                f"{took['encoding']:.2f} s encoding again: {ratios[method]:.1f} times",
                flush=True,
            )
        record("cached_tuning", {f"cached_tuning_speedup_{short}": min(ratios.values())}, **{short: told})


if __name__ == "__main__":
    main()
