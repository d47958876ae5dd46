"""PromptAD's checkpoints: `CLS-Seed_S-<product>-check_point.pt` and `SEG-…` of FuNz-0/PromptAD, one pair a product.

CODE (commit 0f86ce0, train_cls.py and train_seg.py): a state dict of three tensors, float16: text_features [2, D],
the unit prototypes of good and defective, and feature_gallery1 and feature_gallery2 [shots·N, W of the image tower],
the memory of both taps. The learned contexts are NOT saved: no new noun and no new state can be asked of them.
Image scores come from the CLS file, maps from the SEG file; both remember the same good images.
"""

import re

import torch
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported
from flawline.importers.section import section
from flawline.prompts.shared.base import MAIN
from flawline.settings import BackboneSettings, ImagePath

SOURCE = "FuNz-0/PromptAD at 0f86ce0"
BACKBONE = BackboneSettings(name="ViT-B-16-plus-240", weights="laion400m_e32")
_NAME = re.compile(r"(CLS|SEG)-Seed_(\d+)-(.+)-check_point\.pt")
_MAP_SIDE = 400  # of the released maps, which are smoothed with sigma 4
_SAME = 1e-2  # galleries of float16 from two runs on the same images
#: the tapped blocks 2 and 7, counted from 0, hold what the next block's attention added to them
_OVERWRITTEN = {"memory": 4, "memory_2": 9}


def read(checkpoints: list[Checkpoint], backbone: Backbone) -> Imported:
    """Pairs of checkpoints, one a product → prototypes and memory of each product.

    Raises:
        FlawlineError: a name that tells no product, a product without its other file, a key or shape that is not
            as it should be, or two files of one product that remember other images.
    """
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    seeds: dict[str, dict[str, int]] = {}
    for checkpoint in checkpoints:
        task, seed, product = _named(checkpoint)
        if task in found.setdefault(product, {}):
            raise FlawlineError(f"two {task} files of '{product}', the second {checkpoint.path}", "name one")
        found[product][task] = _tensors(checkpoint, backbone)
        seeds.setdefault(product, {})[task] = seed
    state: dict[str, Tensor] = {}
    for product, tasks in sorted(found.items()):
        for task in ("CLS", "SEG"):
            if task not in tasks:
                raise FlawlineError(
                    f"'{product}' has no {task} file: image scores are in the CLS file, maps in the SEG file",
                    "name both files of each product",
                )
            state[f"adapted.{product}/{task.lower()}.pair"] = tasks[task]["text"]
        memory, other = tasks["CLS"]["memory"], tasks["SEG"]["memory"]
        if memory.shape != other.shape or float((memory - other).abs().max()) > _SAME:
            raise FlawlineError(f"the two files of '{product}' remember different good images", "name a pair")
        state[f"memory.{product}"] = memory
    shots = {tasks["CLS"]["memory"].shape[1] // backbone.grid**2 for tasks in found.values()}
    if len(shots) > 1:
        raise FlawlineError(
            f"files of {sorted(shots)} shots stand side by side", "import each number on its own"
        )
    options = {
        "image_path": "vv",
        "memory_path": [f"overwritten_{block - 1}" for block in _OVERWRITTEN.values()],
        "shots": shots.pop(),
        "tune_on": "train",
        "pairs": "modulo",
        "seg_margin": "tokens",
        "smoothing": 4 * backbone.image_size / _MAP_SIDE,
    }
    paths = {MAIN: ImagePath(attention="vv")}
    for role, block in _OVERWRITTEN.items():
        paths[role] = ImagePath(attention="qk", first_block=block, levels=[block], space="tower")
    return Imported(options, paths, state, told={"products": sorted(found), "seeds": seeds})


def _named(checkpoint: Checkpoint) -> tuple[str, int, str]:
    """Task, seed and product of a file, which nothing but its name tells."""
    match = _NAME.fullmatch(checkpoint.path.name)
    if match is None:
        raise FlawlineError(
            f"{checkpoint.path}: the name tells neither task nor product",
            "give it its released name: CLS-Seed_111-bottle-check_point.pt or SEG-Seed_111-…",
        )
    return match[1], int(match[2]), match[3]


def _tensors(checkpoint: Checkpoint, backbone: Backbone) -> dict[str, Tensor]:
    """`text` [2, D] and `memory` [2, shots·N, W]."""
    cells, width = backbone.grid**2, backbone.vision_width
    with section(checkpoint) as part:
        text = part.take("text_features", 2, backbone.dim)
        memory = part.take("feature_gallery1", None, width)
        if len(memory) == 0 or len(memory) % cells:
            raise part.wrong(
                "feature_gallery1",
                f"expected shape [multiple of {cells}, {width}], found {list(memory.shape)}",
            )
        return {"text": text, "memory": torch.stack([memory, part.take("feature_gallery2", *memory.shape)])}
