"""The frozen CLIP that every stage shares: loading, preprocessing, tokenizing, and its dimensions."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from flawline.clip.registry import model_config, open_clip
from flawline.clip.weights import build_model, sha256_state
from flawline.errors import FlawlineError
from flawline.settings import BackboneSettings


class Backbone(nn.Module):
    """A frozen open_clip model in evaluation mode.

    Attributes:
        model: the open_clip model; `visual` and `text` are its towers.
        image_size: pixels a side of an input. patch_size: pixels a side of a patch. grid: patches a side.
        dim: the joint dimension D.
        vision_width, vision_layers, text_width, text_layers, context_length: of the towers.
        logit_scale: what CLIP multiplies cosines with (the exponential is already taken).
        mean, std: of the input normalisation, three values in 0..1 each.
    """

    def __init__(self, model: Any, settings: BackboneSettings, file_sha256: str | None = None) -> None:
        """Take over an open_clip model; `file_sha256` is the hash of its weight file, where there is one."""
        super().__init__()
        self.model = model
        self.settings = settings
        self.tokenizer: Any = open_clip.SimpleTokenizer(context_length=self.model.context_length)
        visual = self.visual
        (height, width), (patch, _) = visual.image_size, visual.patch_size
        if height != width:
            raise FlawlineError(
                f"backbone.name: {settings.name} takes images of {width}x{height}", "only squares work"
            )
        self.image_size: int = height
        self.patch_size: int = patch
        self.grid: int = visual.grid_size[0]
        self.dim: int = visual.output_dim
        self.vision_width: int = visual.transformer.width
        self.vision_layers: int = visual.transformer.layers
        self.text_width: int = self.text.transformer.width
        self.text_layers: int = self.text.transformer.layers
        self.context_length: int = self.model.context_length
        self.logit_scale: float = float(self.model.logit_scale.detach().exp().reshape(()))
        self.mean: tuple[float, ...] = tuple(visual.image_mean)
        self.std: tuple[float, ...] = tuple(visual.image_std)
        self._file_sha256 = file_sha256
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Frozen: stays in evaluation mode whatever a surrounding module asks for."""
        return super().train(False)

    @property
    def _custom(self) -> bool:
        return hasattr(self.model, "text")

    @property
    def visual(self) -> Any:
        """open_clip's VisionTransformer."""
        return self.model.visual

    @property
    def text(self) -> Any:
        """What holds the text tower's parts (token_embedding, transformer, …): the model or its `text`."""
        return self.model.text if self._custom else self.model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weight file, or of the weights themselves where there is no file (tag, random)."""
        return self._file_sha256 or sha256_state(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what features depend on: architecture, weights, image size, normalisation."""
        parts = {
            "config": open_clip.get_model_config(self.settings.name),
            "weights": self.weights_sha256,
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def card(self) -> dict[str, Any]:
        """What every card says of the backbone: name, weights, weights_sha256, image_size, seed."""
        return {
            "name": self.settings.name,
            "weights": self.settings.weights,
            "weights_sha256": self.weights_sha256,
            "image_size": self.image_size,
            "seed": self.settings.seed,
        }

    def squash(self, image: Image.Image) -> Image.Image:
        """A picture of any size and mode → RGB of S × S pixels, uncropped."""
        side = self.image_size
        rgb = image.convert("RGB")
        # Pillow's bicubic antialiases
        return rgb if rgb.size == (side, side) else rgb.resize((side, side), Image.Resampling.BICUBIC)

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture of any size and mode → float32 [3, S, S], normalised; squashed to a square, uncropped.

        Pillow and NumPy alone: a thread that prepares the next batch starts no second team of torch's threads.
        """
        pixels = np.asarray(self.squash(image))
        planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        for channel, levels in enumerate(self._levels):
            np.take(levels, pixels[..., channel], out=planes[channel], mode="clip")
        return torch.from_numpy(planes)

    @cached_property
    def _levels(self) -> np.ndarray:
        """What each byte of each channel becomes: float32 [3, 256]."""
        values = np.arange(256, dtype=np.float32)[None] / 255.0
        mean, std = (np.asarray(three, dtype=np.float32)[:, None] for three in (self.mean, self.std))
        return np.asarray((values - mean) / std)

    def tokenize(self, sentences: list[str]) -> Tensor:
        """Sentences → token ids [n, T], T = context_length, zeros after the end token.

        Raises:
            FlawlineError: a sentence is too long (open_clip would cut it silently).
        """
        for sentence in sentences:
            count = len(self.tokenizer.encode(sentence)) + 2
            if count > self.context_length:
                raise FlawlineError(
                    f"the sentence '{sentence[:40]}…' has {count} tokens, {self.settings.name} reads "
                    f"{self.context_length}",
                    "shorten it",
                )
        ids: Tensor = self.tokenizer(sentences)
        return ids


def load_backbone(settings: BackboneSettings, root: Path) -> Backbone:
    """Load the frozen CLIP that params.yaml describes.

    Args:
        settings: the `backbone` section; `weights` is a .safetensors path (relative to `root`), an open_clip
            tag, or `none` for random weights from `seed`.
        root: the workspace.

    Raises:
        FlawlineError: unknown or unusable model, bad weights, an image size that is no multiple of the patch.
    """
    config = model_config(settings.name)
    patch = config["vision_cfg"].get("patch_size", 16)
    if settings.image_size is not None and settings.image_size % patch:
        near = max(1, round(settings.image_size / patch)) * patch
        raise FlawlineError(
            f"backbone.image_size: {settings.image_size} is no multiple of the patch size {patch}",
            f"for example {near}",
        )
    model, file_sha256 = build_model(settings, config, root)
    return Backbone(model, settings, file_sha256)
