"""A prompt set on disk: `prompts.safetensors` (what was learned) and `card.json` (the protocol card)."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flawline.clip.backbone import Backbone, load_backbone
from flawline.errors import FlawlineError
from flawline.files import atomic_folder, read_json, write_json
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.base import PromptMethod
from flawline.settings import BackboneSettings, ImagePath

TENSORS, CARD = "prompts.safetensors", "card.json"


def save_prompt_set(folder: Path, method: PromptMethod, card: dict[str, Any]) -> None:
    """Write a prompt set atomically."""
    tensors = {name: value.detach().contiguous() for name, value in sorted(method.state_dict().items())}
    with atomic_folder(folder) as partial:
        save_file(tensors, partial / TENSORS, {"method": method.name})
        write_json(partial / CARD, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The protocol card of a prompt set.

    Raises:
        FlawlineError: there is none, or it is broken.
    """
    card: dict[str, Any] = read_json(Path(folder) / CARD)
    missing = sorted({"method", "backbone", "image_paths", "options", "seed", "threshold"} - set(card))
    if missing:
        raise FlawlineError(f"{folder}/{CARD} lacks {', '.join(missing)}", "tune the prompt set again")
    return card


def load_prompt_set(
    folder: Path, root: Path, backbone: Backbone | None = None
) -> tuple[PromptMethod, dict[str, ImagePath]]:
    """Rebuild a method with its learned tokens; also how it reads the image tower, by role.

    Args:
        folder: the prompt set.
        root: the workspace that weight files are relative to.
        backbone: used instead of loading the one the card names (its weights are compared all the same).

    Raises:
        FlawlineError: a broken prompt set, or a backbone with other weights than the card names.
    """
    folder = Path(folder)
    card = read_card(folder)
    named = {k: v for k, v in card["backbone"].items() if k in BackboneSettings.model_fields}
    backbone = backbone or load_backbone(BackboneSettings.model_validate(named), root)
    if backbone.weights_sha256 != card["backbone"]["weights_sha256"]:
        raise FlawlineError(
            f"{folder}: tuned on {card['backbone']['name']} weights {card['backbone']['weights_sha256'][:12]}, but "
            f"{named['weights']} has {backbone.weights_sha256[:12]}",
            "restore the weight file (dvc pull) or tune again",
        )
    options = method_options(card["method"], card["options"])
    method = method_class(card["method"])(backbone, options, card["seed"])
    try:
        method.load_state_dict(load_file(folder / TENSORS))
    except FileNotFoundError as error:
        raise FlawlineError(f"{folder / TENSORS} is missing", "tune the prompt set again") from error
    except (SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise FlawlineError(
            f"{folder / TENSORS} cannot be read: {cause}", "tune the prompt set again"
        ) from error
    paths = {role: ImagePath.model_validate(path) for role, path in card["image_paths"].items()}
    return method.eval(), paths
