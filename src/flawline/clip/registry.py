"""Which architectures there are: open_clip's, and flawline's own beside them on the same path."""

import difflib
from pathlib import Path
from typing import Any

from flawline.clip.torchvision_shim import ensure_torchvision
from flawline.errors import FlawlineError

ensure_torchvision()
import open_clip  # noqa: E402  (the shim must come first)

CONFIGS = Path(__file__).parent / "configs"
_REMEDY = (
    "choose an open_clip ViT with CLIP's own text tower, e.g. ViT-B-16-plus-240 or ViT-L-14-336-quickgelu"
)


def model_config(name: str) -> dict[str, Any]:
    """The open_clip configuration of a model that flawline can use.

    Raises:
        FlawlineError: no such model (close matches are named), or a kind of tower that has no patch tokens or
            no causal text to put learned tokens into.
    """
    if not {path.stem for path in CONFIGS.glob("*.json")} <= set(open_clip.list_models()):
        open_clip.add_model_config(CONFIGS)
    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        lower = {model.lower(): model for model in known}
        close = close or [lower[m] for m in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.4)]
        hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() shows them all"
        raise FlawlineError(f"backbone.name: open_clip knows no model '{name}'", hint)
    config: dict[str, Any] = open_clip.get_model_config(name)
    reason = _unusable(config)
    if reason:
        raise FlawlineError(f"backbone.name: '{name}' {reason}", _REMEDY)
    return config


def _unusable(config: dict[str, Any]) -> str | None:
    """Why a configuration cannot be used (a clause), or None."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    custom = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
    if vision.get("timm_model_name"):
        return "has an image tower from timm, not open_clip's VisionTransformer"
    if isinstance(vision.get("layers"), list | tuple):
        return "has a ResNet image tower, which has no patch tokens"
    if vision.get("attentional_pool") or "multimodal_cfg" in config:
        return "pools its image tokens by attention (CoCa)"
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        return "has a text tower or tokenizer from Hugging Face transformers"
    if text.get("embed_cls") or text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax":
        return "does not read its text at the end token of a causal tower"
    for tower in (vision, text):
        if tower.get("block_type", "default") not in (None, "default") or any(
            tower.get(key) for key in custom
        ):
            return "has custom attention blocks"
    return None
