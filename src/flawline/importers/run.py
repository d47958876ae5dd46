"""`flawline import`: a released checkpoint becomes a prompt set that loads and scores like a tuned one."""

from pathlib import Path
from types import ModuleType
from typing import Any

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.errors import FlawlineError
from flawline.importers import anomalyclip, dapo, faprompt, promptad
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.base import PromptMethod
from flawline.prompts.shared.prompt_set import CARD, read_card, save_prompt_set
from flawline.settings import BackboneSettings

IMPORTERS: dict[str, ModuleType] = {
    "anomalyclip": anomalyclip, "dapo": dapo, "faprompt": faprompt, "promptad": promptad,
}  # fmt: skip
#: released checkpoints carry no threshold
THRESHOLD = 0.5


def run(
    name: str,
    files: list[Path],
    out: Path,
    root: Path,
    backbone: BackboneSettings | None = None,
    overrides: dict[str, Any] | None = None,
    trained_on: tuple[str, list[str]] = ("unknown", []),
) -> Path:
    """Read released checkpoints into a prompt set folder.

    Args:
        name: the method.
        files: one checkpoint; for PromptAD the CLS and the SEG file of each product.
        out: folder of the prompt set; an earlier import there is replaced, nothing else is.
        root: the workspace that weight files are relative to.
        backbone: None: the one the authors used.
        overrides: options that differ from those of the released code.
        trained_on: name of the data set that trained the checkpoint, and the SHA-256 of its images as far as known.

    Returns:
        `out`.

    Raises:
        FlawlineError: no importer for the method, a checkpoint that is not as its authors save it or that is of
            another method or backbone, or a folder that holds something else.
    """
    if name not in IMPORTERS:
        raise FlawlineError(
            f"'{name}' has no released checkpoints that flawline reads", f"choose from {', '.join(IMPORTERS)}"
        )
    _refuse_to_overwrite(out)
    importer = IMPORTERS[name]
    checkpoints = [Checkpoint.open(file) for file in files]
    for checkpoint in checkpoints:
        like = looks_like(checkpoint)
        if like not in (None, name):
            raise FlawlineError(
                f"{checkpoint.path} is a checkpoint of {like}, not of {name}", f"import it as {like}"
            )
    if name != "promptad" and len(checkpoints) != 1:
        raise FlawlineError(
            f"{name} is imported from one file, not {len(checkpoints)}", "import each on its own"
        )
    loaded = load_backbone(backbone or importer.BACKBONE, root)
    imported: Imported = importer.read(checkpoints, loaded)
    method = _build(name, imported, loaded, overrides or {})
    save_prompt_set(out, method, _card(method, imported, checkpoints, trained_on))
    return out


def looks_like(checkpoint: Checkpoint) -> str | None:
    """The method whose checkpoints have such keys; None where nothing gives it away."""
    table = checkpoint.table
    learner = table.get("prompt_learner", table.get("prompt_learner_state_dict"))
    keys = [key for key in learner if isinstance(key, str)] if isinstance(learner, dict) else []
    if "feature_gallery1" in table or "text_features" in table:
        return "promptad"
    if any(key.startswith("learnable_") for key in keys):
        return "dapo"
    if any(key.startswith("patch_meta_net.") for key in keys):
        return "faprompt"
    if "ctx_pos" in keys and any(key.startswith("compound_prompts_text.") for key in keys):
        return "anomalyclip"
    return None


def _refuse_to_overwrite(out: Path) -> None:
    if not out.exists():
        return
    if not (out / CARD).is_file() or "imported" not in read_card(out):
        raise FlawlineError(f"{out} is there already and no earlier import", "name another folder with --out")


def _build(name: str, imported: Imported, backbone: Backbone, overrides: dict[str, Any]) -> PromptMethod:
    """The method with everything that was learned in it."""
    options = method_options(name, imported.options | overrides)
    method = method_class(name)(backbone, options, 0)
    start = method.state_dict()
    for key, value in imported.state.items():
        if key in start and start[key].shape != value.shape:
            raise FlawlineError(
                f"{name} has {key} of shape {list(start[key].shape)}, the checkpoint {list(value.shape)}",
                "take back --set, or use the backbone the checkpoint was made for",
            )
    absent = sorted({key for key, _ in method.named_parameters()} - set(imported.state))
    strange = sorted(
        key for key in set(imported.state) - set(start) if not key.startswith(("memory.", "adapted."))
    )
    if name != "promptad" and (absent or strange):
        raise FlawlineError(
            f"{name} with these options and {backbone.settings.name} "
            f"{f'learns {absent[0]}, which the checkpoint lacks' if absent else f'has no {strange[0]}'}",
            "take back --set, or use the backbone the checkpoint was made for",
        )
    method.load_state_dict(start | imported.state)
    return method.requires_grad_(False).eval()


def _card(
    method: PromptMethod, imported: Imported, checkpoints: list[Checkpoint], trained_on: tuple[str, list[str]]
) -> dict[str, Any]:
    """The protocol card, with the keys of a tuned one and `imported`: where it comes from."""
    train_set, hashes = trained_on
    paths = resolve_paths(method.backbone, imported.paths)
    return {
        "method": method.name,
        "fidelity": "released-code",
        "seed": 0,
        "train_set": train_set,
        "train_sha256": sorted(set(hashes)),
        "imported": {
            "files": [{"file": one.path.name, "sha256": one.sha256} for one in checkpoints],
            "layout": IMPORTERS[method.name].SOURCE,
            "unused": imported.unused,
            **imported.told,
        },
        "backbone": method.backbone.card(),
        "image_paths": {role: path.model_dump() for role, path in sorted(paths.items())},
        "options": method.options.model_dump(),
        "stages": [],
        "score": method.score_formula,
        "threshold": {
            "value": THRESHOLD,
            "rule": "none",
            "quantile": None,
            "from": "nothing: released checkpoints carry none",
        },
        "support": None,
        "noun": method.options.noun,
        "words": method.words(),
        "learned": {"parameters": sum(value.numel() for value in imported.state.values())},
    }
