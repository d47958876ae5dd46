"""AnomalyCLIP's checkpoints: `epoch_N.pth` of zqhang/AnomalyCLIP.

CODE (commit 45ed4dd, train.py and prompt_ensemble.py): {"prompt_learner": state dict} with ctx_pos and ctx_neg
[1, 1, V, W], compound_prompts_text.i [k, W] for text layers 2, 3, …, and the frozen words. The linear layers
compound_prompt_projections are saved and never used.
"""

from flawline.clip.backbone import Backbone
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported, check_words, dual_path
from flawline.importers.section import section
from flawline.prompts.shared.base import MAIN, OBJECT
from flawline.settings import BackboneSettings

SOURCE = "zqhang/AnomalyCLIP at 45ed4dd"
BACKBONE = BackboneSettings(name="ViT-L-14-336-quickgelu", weights="openai", image_size=518)


def read(checkpoints: list[Checkpoint], backbone: Backbone) -> Imported:
    """One checkpoint → contexts and deep text tokens, scored as the released code does.

    Raises:
        FlawlineError: a key is missing or unknown, or a shape is not the backbone's.
    """
    (checkpoint,) = checkpoints
    width = backbone.text_width
    with section(checkpoint, "prompt_learner") as part:
        good = part.take("ctx_pos", 1, 1, None, width)[0, 0]
        bad = part.take("ctx_neg", 1, 1, len(good), width)[0, 0]
        deep = part.stack("compound_prompts_text", None, width)
        unused = part.skip("compound_prompt_projections.")
        check_words(part, backbone, "pos", 1, len(good), f"{OBJECT}.")
        check_words(part, backbone, "neg", 1, len(good), f"damaged {OBJECT}.")
    layers = [] if deep is None else list(deep)
    options = {
        "image_path": "vv",
        "context_tokens": len(good),
        "deep_depth": 1 + len(layers),
        "deep_length": len(layers[0]) if layers else 1,
        "deep_half": True,
    }
    state = {"contexts.good": good, "contexts.defective": bad}
    state |= {f"deep.{number}": tokens for number, tokens in enumerate(layers)}
    return Imported(options, {MAIN: dual_path(backbone)}, state, unused)
