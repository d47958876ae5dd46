"""Builds an open_clip model and fills it: from a safetensors file, an open_clip tag, or at random."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from flawline.clip.registry import open_clip
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.settings import BackboneSettings

RANDOM = "none"
_PICKLED = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz"}


def build_model(
    settings: BackboneSettings, config: dict[str, Any], root: Path
) -> tuple[nn.Module, str | None]:
    """The open_clip model in float32 with its weights.

    Args:
        settings: name, weights, image_size (None: the architecture's own), seed (of random weights).
        config: the architecture, from `registry.model_config`.
        root: folder that a relative weight file lies in.

    Returns:
        The model, and the SHA-256 of its weight file (None where there is no file).

    Raises:
        FlawlineError: missing, unreadable, pickled or ill-fitting weights; an unknown tag; a failed download.
    """
    weights = settings.weights
    suffix = Path(weights).suffix.lower()
    if weights == RANDOM:
        return _create(settings, None), None
    if suffix == ".safetensors":
        path = Path(root) / weights
        if not path.is_file():
            raise FlawlineError(
                f"backbone.weights: {path} is missing", "run `dvc pull`, or name another weight file"
            )
        model = _create(settings, None)
        _fill(model, path)
        return model, sha256_file(path)
    if suffix in _PICKLED:
        raise FlawlineError(
            f"backbone.weights: {weights} is no safetensors file, and pickles are never opened",
            "convert it with safetensors.torch.save_file and name that file",
        )
    return _create(settings, _checked_tag(settings.name, weights, config)), None


def sha256_state(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and float32 bytes of a model's weights, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _checked_tag(name: str, tag: str, config: dict[str, Any]) -> str:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        have = f"{name} has {', '.join(tags)}" if tags else f"{name} has none"
        raise FlawlineError(
            f"backbone.weights: '{tag}' is no .safetensors file, not `none`, and no open_clip tag ({have})",
            "name a weight file or one of these tags",
        )
    trained_quick = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if trained_quick != bool(config.get("quick_gelu", False)):
        other = f"{name}-quickgelu" if trained_quick else name.removesuffix("-quickgelu")
        raise FlawlineError(
            f"backbone.weights: '{tag}' was trained with another activation than {name} computes",
            f"set backbone.name to {other}",
        )
    return tag


def _create(settings: BackboneSettings, tag: str | None) -> nn.Module:
    """open_clip's own factory; random weights depend on the seed alone, torch's generator stays as it was."""
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(settings.seed)
        try:
            model = open_clip.create_model(
                settings.name,
                pretrained=tag,
                precision="fp32",
                force_image_size=settings.image_size,
                weights_only=True,
            )
        except Exception as error:
            if tag is None:
                raise
            # Download, hub and checkpoint errors come in many types; all mean the same to the user.
            reason = " ".join(str(error).split())[:200]
            raise FlawlineError(
                f"backbone.weights: open_clip could not load '{tag}' of {settings.name}: {reason}",
                "download the weights elsewhere and set backbone.weights to the local .safetensors file",
            ) from error
    assert isinstance(model, nn.Module)
    return model.float()


def _fill(model: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly (half precision too); the position embedding is resized."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    try:
        state: dict[str, Tensor] = {name: value.float() for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise FlawlineError(
            f"backbone.weights: {path} cannot be read: {error}",
            "fetch it again (`dvc pull`) or name another file",
        ) from error
    try:
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        for scalar in ("logit_scale", "logit_bias"):
            if scalar in state and isinstance(getattr(model, scalar, None), Tensor):
                state[scalar] = state[scalar].reshape(getattr(model, scalar).shape)
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
        model.load_state_dict(state, strict=True)
    except (RuntimeError, AssertionError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FlawlineError(
            f"backbone.weights: {path} does not fit the architecture: {reason}",
            "set backbone.name to the architecture these weights were made for",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns by the root logger that random weights are random; that would install a handler."""
    root, null, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(null)
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(null)
