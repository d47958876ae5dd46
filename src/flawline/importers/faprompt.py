"""FAPrompt's checkpoints: `epoch_N.pth` of mala-lab/FAPrompt.

CODE (commit 7e9d9d2, train.py and FAPrompt.py): as AnomalyCLIP's, but ctx_neg is [1, K, A, W], there are K abnormal
prompts among the frozen words, and patch_meta_net is the prior: linear1 [H, M·D], linear2 [W, H]. It was trained on
patches 0 to 9 whatever their scores (`select: first10`), so it is read that way.
"""

from flawline.clip.backbone import Backbone
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.imported import Imported, check_words, dual_path
from flawline.importers.section import Section, section
from flawline.prompts.shared.base import MAIN, OBJECT
from flawline.settings import BackboneSettings

SOURCE = "mala-lab/FAPrompt at 7e9d9d2"
BACKBONE = BackboneSettings(name="ViT-L-14-336-quickgelu", weights="openai", image_size=518)


def read(checkpoints: list[Checkpoint], backbone: Backbone) -> Imported:
    """One checkpoint → contexts, deep text tokens and the prior, scored as the released code does.

    Raises:
        FlawlineError: a key is missing or unknown, or a shape is not the backbone's.
    """
    (checkpoint,) = checkpoints
    width = backbone.text_width
    with section(checkpoint, "prompt_learner") as part:
        good = part.take("ctx_pos", 1, 1, None, width)[0, 0]
        bad = part.take("ctx_neg", 1, None, None, width)[0]
        deep = part.stack("compound_prompts_text", None, width)
        seen = _patches(part, backbone.dim)
        first = part.take("patch_meta_net.linear1.weight", None, seen * backbone.dim)
        hidden = len(first)
        prior = {
            "prior.linear1.weight": first,
            "prior.linear1.bias": part.take("patch_meta_net.linear1.bias", hidden),
            "prior.linear2.weight": part.take("patch_meta_net.linear2.weight", width, hidden),
            "prior.linear2.bias": part.take("patch_meta_net.linear2.bias", width),
        }
        unused = part.skip("compound_prompt_projections.")
        learned = len(good) + bad.shape[1]
        check_words(part, backbone, "pos", 1, len(good), f"{OBJECT}.")
        check_words(part, backbone, "neg", len(bad), learned, f"damaged {OBJECT}.")
    layers = [] if deep is None else list(deep)
    options = {
        "image_path": "vv",
        "normal_tokens": len(good),
        "abnormal_tokens": bad.shape[1],
        "abnormal_prompts": len(bad),
        "deep_depth": 1 + len(layers),
        "deep_length": len(layers[0]) if layers else 1,
        "deep_half": True,
        "prior_patches": seen,
        "prior_hidden": hidden,
        "select": "first10",
    }
    state = {"contexts.good": good, "contexts.defective": bad} | prior
    state |= {f"deep.{number}": tokens for number, tokens in enumerate(layers)}
    return Imported(options, {MAIN: dual_path(backbone)}, state, unused)


def _patches(part: Section, dim: int) -> int:
    """M: how many patches the prior was built for."""
    shape = part.shape("patch_meta_net.linear1.weight")
    if len(shape) != 2 or shape[1] == 0 or shape[1] % dim:
        raise part.wrong(
            "patch_meta_net.linear1.weight", f"expected shape [any, multiple of {dim}], found {list(shape)}"
        )
    return shape[1] // dim
