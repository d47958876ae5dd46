"""PromptAD against the released code's numbers, both branches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.files import read_json
from flawline.prompts.promptad import PromptAd, PromptAdOptions
from flawline.prompts.shared.base import MAIN
from flawline.prompts.shared.batches import Batch, Inputs
from flawline.prompts.shared.maps import finish_maps, upsample
from flawline.settings import ImagePath

GOLDEN = Path(__file__).parent.parent / "golden"
GOOD = torch.tensor([0, 2])


def _method(backbone: Backbone, seed: int = 0, **options: object) -> PromptAd:
    return PromptAd(backbone, PromptAdOptions(image_path="vv", **options), seed)  # type: ignore[arg-type]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b).abs().max() / b.abs().max())


PATHS = {
    MAIN: ImagePath(attention="vv"),
    # 0-based blocks 2 and 7 as the released code stores them: overwritten by the next block's attention
    "memory": ImagePath(attention="qk", first_block=4, levels=[4], space="tower"),
    "memory_2": ImagePath(attention="qk", first_block=9, levels=[9], space="tower"),
    "clean": ImagePath(levels=[3, 8], space="tower"),
}
PHRASES = ["{} with a bent shape", "{} with color stain", "{} with a flipped orientation", "{} with scratch"]


@pytest.fixture(scope="module")
def gold() -> dict[str, dict[str, Tensor]]:
    """By branch; what is the same for both stands in `cls`."""
    files = {branch: load_file(GOLDEN / f"promptad_{branch}.safetensors") for branch in ("cls", "seg")}
    return {branch: files["cls"] | found if branch == "seg" else found for branch, found in files.items()}


@pytest.fixture
def released(golden_b16plus: Backbone, gold: dict[str, dict[str, Tensor]]) -> PromptAd:
    constants = {branch: read_json(GOLDEN / f"promptad_{branch}.json")["constants"] for branch in gold}
    method = _method(
        golden_b16plus,
        memory_path=["overwritten_3", "overwritten_8"],
        states={"metal nut": PHRASES},
        pairs="modulo",
        seg_margin="tokens",
        tune_on="train",
        normal_contexts=constants["cls"]["normal_contexts"],
        normal_contexts_seg=constants["seg"]["normal_contexts"],
        match_weight=constants["cls"]["lambda1"],
    )
    assert method.scale == pytest.approx(constants["cls"]["logit_scale"], rel=1e-6)
    for branch, found in gold.items():
        for name in ("normal", "abnormal"):
            method.get_parameter(f"{branch}.{name}").data.copy_(found[f"init.context_{name}"])
    return method


def _inputs(backbone: Backbone, make_weights: Any, name: str, count: int) -> Inputs:
    pixels = torch.from_numpy(make_weights.images(name, count, 80, 31))
    read = encode_image(backbone, pixels, PATHS)
    more = {role: encoded.patches for role, encoded in read.items() if role != MAIN}
    return Inputs(
        read[MAIN].cls, read[MAIN].patches, ["metal nut"] * count, more, None, ["metal_nut"] * count
    )


def test_released_features(
    golden_b16plus: Backbone, make_weights: Any, gold: dict[str, dict[str, Tensor]]
) -> None:
    found, inputs = gold["cls"], _inputs(golden_b16plus, make_weights, "images", 4)
    assert relative(inputs.cls, found["out.image_features"]) < 1e-4
    assert relative(inputs.patches[:, 0], found["out.patch_features"]) < 1e-4
    for k, role in ((1, "memory"), (2, "memory_2")):
        assert relative(inputs.more[role][:, 0], found[f"out.memory_features_{k}"]) < 1e-4
        assert relative(inputs.more["clean"][:, k - 1], found[f"out.memory_clean_{k}"]) < 1e-4
        assert relative(inputs.more["clean"][:, k - 1], found[f"out.memory_features_{k}"]) > 1e-2


@pytest.mark.parametrize("branch", ["cls", "seg"])
def test_released_text(released: PromptAd, gold: dict[str, dict[str, Tensor]], branch: str) -> None:
    text, found = released.encode(branch, "metal nut"), gold[branch]
    for name, mine in (("normal", text.normal), ("manual", text.manual), ("learned", text.learned)):
        assert relative(mine, found[f"out.text_{name}_raw"]) < 1e-4
    both = torch.cat([found["out.prototype_normal"], found["out.prototype_abnormal"]])
    assert relative(text.pair, both) < 1e-4 and relative(text.pair, found["out.gallery_text"]) < 1e-4
    assert relative(text.negatives, found["out.text_negatives"]) < 1e-4


@pytest.mark.parametrize("branch", ["cls", "seg"])
def test_released_losses_gradients_and_step(
    released: PromptAd, make_weights: Any, gold: dict[str, dict[str, Tensor]], branch: str
) -> None:
    """Both branches train on one sum of losses; each must get what training it alone gives."""
    found, inputs = gold[branch], _inputs(released.backbone, make_weights, "support", 2)
    batch = Batch(inputs, torch.zeros(2, dtype=torch.long), torch.zeros(2, 80, 80))
    losses = released.own_losses(batch, released.predict(batch))
    (stage,) = released.stages()
    for term in ("contrastive", "margin", "match"):
        assert relative(losses[f"{branch}_{term}"], found[f"loss.{term}"]) < 1e-4
    weighted = {name: weight * losses[name] for name, weight in stage.losses.items()}
    own = torch.stack([value for name, value in weighted.items() if name.startswith(branch)]).sum()
    assert relative(own, found["loss.total"]) < 1e-4
    torch.stack(list(weighted.values())).sum().backward()
    for name in ("normal", "abnormal"):
        gradient = released.get_parameter(f"{branch}.{name}").grad
        assert gradient is not None and relative(gradient, found[f"grad.context_{name}"]) < 1e-3
    torch.optim.SGD(
        released.parameters(), stage.learning_rate, stage.momentum, weight_decay=stage.weight_decay
    ).step()
    for name in ("normal", "abnormal"):
        stepped = released.get_parameter(f"{branch}.{name}")
        assert relative(stepped, found[f"after_step.context_{name}"]) < 1e-4


def test_released_scores_and_maps(
    released: PromptAd, make_weights: Any, gold: dict[str, dict[str, Tensor]]
) -> None:
    released.remember(_inputs(released.backbone, make_weights, "support", 2))
    inputs = _inputs(released.backbone, make_weights, "images", 4)
    kept = released.memory.of["metal_nut"]
    for level in (0, 1):
        mine = kept[level]
        assert relative(mine, gold["cls"][f"out.memory_{level + 1}"]) < 1e-4
    taps = torch.cat([inputs.more["memory"], inputs.more["memory_2"]], 1)
    visual = released.memory.distance(taps, inputs.categories).mean(1)
    assert relative(visual.view(4, 5, 5), gold["cls"]["test.visual_map"]) < 1e-4
    assert relative(upsample(visual, 80), gold["cls"]["test.visual_map_up"]) < 1e-4
    pairs = released.prototypes("metal_nut", "metal nut")
    image = (released.scale * inputs.cls @ pairs["cls"].T).softmax(-1)[:, 1]
    assert relative(image, gold["cls"]["test.text_score"]) < 1e-4
    text = (released.scale * inputs.patches[:, 0] @ pairs["seg"].T).softmax(-1)[..., 1].view(4, 5, 5)
    assert relative(text, gold["seg"]["test.text_map"]) < 1e-4
    scores, maps = released.score(inputs, 80)
    assert relative(scores, gold["cls"]["test.score"]) < 1e-4
    assert relative(maps, gold["seg"]["test.map"]) < 1e-4
    grid = gold["seg"]["test.fused_grid"].flatten(1)
    assert relative(maps, finish_maps(grid, 80, 4.0)) < 1e-4
