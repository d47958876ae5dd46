"""Checkpoints as the released training scripts write them, made with torch.save.

Layout and key names are those of the released code (facts read there); values come from the golden recipes or, for a
backbone without golden values, from a seed.
"""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from flawline.clip.backbone import Backbone
from golden import make_weights
from golden.prompt_case import GOLDEN

State = dict[str, Tensor]


def state_dict(values: State) -> "OrderedDict[str, Tensor]":
    """As nn.Module.state_dict() gives it: ordered, with the versions of modules as an attribute."""
    state = OrderedDict(values)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


def case(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A golden case: tensors and card."""
    gold = load_file(GOLDEN / f"{name}.safetensors")
    return gold, json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def recipes(card: dict[str, Any]) -> State:
    """Start values by the name the released code gives them."""
    return {
        recipe["name"].partition("/")[2]: torch.from_numpy(make_weights.from_recipe(recipe))
        for recipe in card["recipes"].values()
    }


def words(backbone: Backbone, side: str, ids: Tensor, learned: int) -> State:
    """The frozen words of n prompts [n, 77] that the learners of AnomalyCLIP and FAPrompt keep as buffers."""
    with torch.no_grad():
        embedded = backbone.text.token_embedding(ids.long())[None]
    return {
        f"token_prefix_{side}": embedded[:, :, :1],
        f"token_suffix_{side}": embedded[:, :, 1 + learned :],
        f"tokenized_prompts_{side}": ids.int()[None],
    }


def unused(width: int, layers: int) -> State:
    """The linear layers that both learners declare and never call."""
    shapes = {"weight": (896, width), "bias": (896,)}
    return {
        f"compound_prompt_projections.{layer}.{kind}": torch.zeros(shape)
        for layer in range(layers)
        for kind, shape in shapes.items()
    }


def golden_learner(backbone: Backbone, name: str) -> State:
    """State dict of the prompt learner of an AnomalyCLIP or FAPrompt case, at its start values."""
    gold, card = case(name)
    values = recipes(card)
    shared, own = values["ctx_pos"].shape[2], values["ctx_neg"].shape[2]
    fine = "patch_meta_net.linear1.weight" in values
    many = gold["in.tokens_abnormal"].expand(values["ctx_neg"].shape[1], -1)
    values |= words(backbone, "pos", gold["in.tokens_normal"], shared)
    values |= words(backbone, "neg", many, own + (shared if fine else 0))
    return values | unused(backbone.text_width, 8)


def random_learner(backbone: Backbone, seed: int = 0) -> State:
    """State dict of AnomalyCLIP's prompt learner for any backbone: 12 learned tokens, 3 layers of deep ones."""
    generator, width = torch.Generator().manual_seed(seed), backbone.text_width
    placeholders = "X " * 12
    values = {f"ctx_{side}": torch.randn(1, 1, 12, width, generator=generator) for side in ("pos", "neg")}
    values |= {f"compound_prompts_text.{k}": torch.randn(4, width, generator=generator) for k in range(3)}
    for side, sentence in (("pos", "object."), ("neg", "damaged object.")):
        values |= words(backbone, side, backbone.tokenize([placeholders + sentence]), 12)
    return values | unused(width, 3)


def golden_dapo(backbone: Backbone, name: str) -> dict[str, State]:
    """State dicts of the three modules of a DAPO case, at its start values."""
    _, card = case(name)
    values, table = recipes(card), backbone.text.token_embedding.weight.detach()

    def like_words(value: Tensor) -> Tensor:
        return value * table.std(0) + table.mean(0)

    learner = {
        "learnable_normal_tokens": like_words(values["context_normal"]),
        "learnable_abnormal_tokens": like_words(values["context_abnormal"]),
    }
    learner |= {f"learnable_layer_tokens.{k}": like_words(values[f"deep_text.{k}"]) for k in range(12)}
    learner |= {"meta_net.0.weight": torch.zeros(8, 128), "meta_net.0.bias": torch.zeros(8)}
    learner |= {"meta_net.2.weight": torch.zeros(128, 8), "meta_net.2.bias": torch.zeros(128)}
    adapters = {
        f"fc.{k}.{kind}": values[f"adapter.{k}.{kind}"] for k in range(4) for kind in ("weight", "bias")
    }
    return {
        "prompt_learner": learner,
        "visual_prompt": {"learnable_visual_tokens": values["deep_visual"]},
        "linear_adapter": adapters,
    }


def save_learner(path: Path, learner: State) -> Path:
    """AnomalyCLIP's and FAPrompt's epoch_N.pth."""
    torch.save({"prompt_learner": state_dict(learner)}, path)
    return path


def save_dapo(path: Path, parts: dict[str, State]) -> Path:
    """DAPO's epoch_N.pth: with the optimiser after a step, and losses as NumPy numbers."""
    trained = [value.clone().requires_grad_() for part in parts.values() for value in part.values()]
    optimiser = torch.optim.Adam(trained, lr=1e-3, betas=(0.5, 0.999))
    torch.stack([value.sum() for value in trained]).sum().backward()
    optimiser.step()
    beside = {"optimizer_state_dict": optimiser.state_dict()}
    beside |= {"train_loss": np.mean([1.0, 2.0]), "train_image_loss": np.mean([0.5])}
    torch.save({"epoch": 1} | {name: state_dict(part) for name, part in parts.items()} | beside, path)
    return path


def save_promptad(folder: Path, product: str, half: bool = False) -> list[Path]:
    """PromptAD's pair of checkpoints with the golden prototypes and memory of both branches."""
    shared, files = case("promptad_cls")[0], []
    for task in ("CLS", "SEG"):
        gold = case(f"promptad_{task.lower()}")[0]
        tensors = {
            "feature_gallery1": shared["out.memory_1"],
            "feature_gallery2": shared["out.memory_2"],
            "text_features": gold["out.gallery_text"],
        }
        file = folder / f"{task}-Seed_111-{product}-check_point.pt"
        torch.save(
            OrderedDict((key, value.half() if half else value) for key, value in tensors.items()), file
        )
        files.append(file)
    return files
