"""DAPO's checkpoints: `epoch_N.pth` (N from 0) of boschresearch/defect-aware-prompt-optimization.

CODE (commit ad2ceab, train.py, learnable_prompt.py, visual_prompt_tuning.py, adapter.py): the state dicts
prompt_learner (learnable_normal_tokens and learnable_abnormal_tokens [E, l, W], learnable_layer_tokens.i [k, W],
a meta_net that is saved and never used), visual_prompt (learnable_visual_tokens [depth, k, W of the image tower]) and
linear_adapter (fc.i.weight [D, W of the image tower], fc.i.bias); beside them the epoch, the losses and the
optimiser. The test script also knows the names with `_state_dict` at the end. No defect word is in the file: the
words are `mvtec`, those of the released training, and `test_words` asks for others.
"""

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported
from flawline.importers.section import section
from flawline.prompts.shared.base import MAIN
from flawline.settings import BackboneSettings, ImagePath

SOURCE = "boschresearch/defect-aware-prompt-optimization at ad2ceab"
BACKBONE = BackboneSettings(name="ViT-L-14-336-quickgelu", weights="openai", image_size=518)
_PARTS = {
    "prompt_learner": "prompt_learner_state_dict",
    "visual_prompt": "visual_prompt_state_dict",
    "linear_adapter": "trainable_adapter_state_dict",
}
_BESIDE = {
    "epoch", "optimizer_state_dict", "train_loss", "train_image_loss", "final_epoch", *_PARTS, *_PARTS.values(),
}  # fmt: skip


def read(checkpoints: list[Checkpoint], backbone: Backbone) -> Imported:
    """One checkpoint → contexts, deep tokens of both towers and adapters, scored as the released code does.

    Raises:
        FlawlineError: a key is missing or unknown, a shape is not the backbone's, or the two kinds of context or
            of deep tokens have different lengths, which flawline's DAPO does not know.
    """
    (checkpoint,) = checkpoints
    strange = sorted(repr(key)[:80] for key in checkpoint.table if key not in _BESIDE)
    if strange:
        raise FlawlineError(
            f"{checkpoint.path} holds {strange[0]}, which the released code does not save",
            "is it a checkpoint of another version or method?",
        )
    width, dim = backbone.text_width, backbone.dim
    with section(checkpoint, "prompt_learner", _PARTS["prompt_learner"]) as part:
        good = part.take("learnable_normal_tokens", None, None, width)
        bad = part.take("learnable_abnormal_tokens", *good.shape)
        deep_text = part.stack("learnable_layer_tokens", None, width)
        unused = part.skip("meta_net.")
    deep = None if deep_text is None else deep_text.shape[1]
    with section(checkpoint, "visual_prompt", _PARTS["visual_prompt"]) as part:
        deep_visual = part.take("learnable_visual_tokens", None, deep, backbone.vision_width)
    with section(checkpoint, "linear_adapter", _PARTS["linear_adapter"]) as part:
        count = sum(key.endswith(".weight") for key in part.tensors)
        adapters = {
            f"adapters.{k}.{kind}": part.take(f"fc.{k}.{kind}", *shape)
            for k in range(count)
            for kind, shape in (("weight", (dim, backbone.vision_width)), ("bias", (dim,)))
        }
    options = {
        "image_path": "plain",
        "defects": "mvtec",
        "train_words": "all",
        "variants": good.shape[0],
        "context_tokens": good.shape[1],
        "deep_tokens": deep_visual.shape[1],
        "text_depth": 0 if deep_text is None else len(deep_text),
        "visual_depth": len(deep_visual),
    }
    state = {"context_good": good, "context_defect": bad} | adapters
    deep_tokens = {"deep_text": deep_text, "deep_visual": deep_visual}
    state |= {name: value for name, value in deep_tokens.items() if value is not None and len(value)}
    epoch = checkpoint.table.get("epoch")
    told = {"epoch": epoch} if type(epoch) is int else {}
    return Imported(options, {MAIN: ImagePath()}, state, unused, told)
