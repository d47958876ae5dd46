"""One golden case of a prompt method, set up: the backbone, the image path, the starting values, one Adam step."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import encode_image
from flawline.clip.registry import open_clip
from flawline.prompts.shared.base import PromptMethod
from flawline.prompts.shared.batches import Batch, Inputs, Prediction
from flawline.settings import BackboneSettings, ImagePath
from flawline.tune.loop import TuningData, tune
from flawline.tune.losses import shared_losses, total
from golden import make_weights

GOLDEN = Path(__file__).parent
# what the released code calls DPAM_layer 20 of 24 blocks, and no final norm on the image feature
RELEASED_PATH = ImagePath(attention="vv", first_block=6, image_norm=False)


def relative(mine: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest reference value."""
    mine, reference = mine.detach(), reference.detach()
    assert mine.shape == reference.shape
    return float((mine - reference).abs().max() / reference.abs().max())


@cache
def released_backbone(variant: str = "l14", seed: int = 20240) -> Backbone:
    """The tiny random CLIP that released code was run on."""
    model = make_weights.build_open_clip(variant, seed)
    open_clip.model.set_model_preprocess_cfg(model, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    return Backbone(model, BackboneSettings(name="ViT-L-14-quickgelu", weights="none"))


@dataclass(frozen=True)
class Case:
    """Tensors and card of a case, and its batch read through flawline's image path.

    Attributes:
        names: golden name of each parameter of the method.
    """

    gold: dict[str, Tensor]
    card: dict[str, Any]
    batch: Batch
    names: dict[str, str]

    @classmethod
    def open(cls, name: str, names: dict[str, str]) -> "Case":
        gold = load_file(GOLDEN / f"{name}.safetensors")
        card = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        images = load_file(GOLDEN / "clip_l14.safetensors")["in.images"]  # the same in all cases
        read = encode_image(released_backbone(), images, {"main": RELEASED_PATH})["main"]
        inputs = Inputs(read.cls, read.patches, [""] * len(images))
        return cls(gold, card, Batch(inputs, gold["in.labels"], gold["in.masks"]), names)

    def name_of(self, parameter: str) -> str:
        return self.names.get(parameter, parameter.replace("deep.", "deep_text."))

    def start(self, method: PromptMethod) -> None:
        """Put the recipes' values into the method; every parameter has one and every recipe is used."""
        recipes = dict(self.card["recipes"])
        for parameter, value in method.named_parameters():
            drawn = make_weights.from_recipe(recipes.pop(self.name_of(parameter)))
            value.data.copy_(torch.from_numpy(drawn).reshape(value.shape))
        assert recipes == {}

    def losses(self, method: PromptMethod) -> tuple[Prediction, dict[str, Tensor], Tensor]:
        prediction = method.predict(self.batch)
        (stage,) = method.stages()
        terms = shared_losses(set(stage.losses), self.batch, prediction)
        terms |= method.own_losses(self.batch, prediction)
        return prediction, terms, total(stage.losses, terms)

    def gradient_errors(self, method: PromptMethod) -> dict[str, float]:
        """Relative error of every parameter's gradient; of big ones the golden slice and norm."""
        self.losses(method)[2].backward()
        errors = {}
        for parameter, value in method.named_parameters():
            name, grad = self.name_of(parameter), value.grad
            assert grad is not None, parameter
            if f"grad.{name}" in self.gold:
                errors[parameter] = relative(grad, self.gold[f"grad.{name}"].reshape(grad.shape))
            else:
                part = self.gold[f"grad_slice.{name}"]
                errors[parameter] = relative(grad[: part.shape[0], : part.shape[1]], part)
                errors[f"|{parameter}|"] = relative(grad.norm(), self.gold[f"grad_norm.{name}"])
        return errors

    def step_errors(self, method: PromptMethod) -> dict[str, float]:
        """One step of flawline's own loop over the golden batch: absolute error of every parameter after it.

        Adam's first step is about rate times sign: only values with a clear gradient are compared.
        """
        data = TuningData(self.batch.inputs, self.batch.masks, self.batch.labels)
        curve = tune(method, data, 0)
        assert {step for _, step, _, _ in curve} == {0}
        errors = {}
        for parameter, value in method.named_parameters():
            name = self.name_of(parameter)
            kind = "" if f"grad.{name}" in self.gold else "_slice"
            after, grad = self.gold[f"after_step{kind}.{name}"], self.gold[f"grad{kind}.{name}"]
            mine = value.reshape(after.shape) if not kind else value[: after.shape[0], : after.shape[1]]
            clear = grad.abs() > 1e-5
            assert clear.any(), name
            errors[parameter] = float((mine - after).abs()[clear].max())
        return errors
