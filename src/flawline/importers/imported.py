"""What every importer makes of a checkpoint, and the check that two of them share. No method's own."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed
from flawline.importers.section import Section
from flawline.settings import ImagePath

#: share of the largest value by which frozen word embeddings may differ: a checkpoint may keep them in float16
_ROUNDING = 2e-3


@dataclass(frozen=True)
class Imported:
    """A prompt set to be: options, how the image tower is read, what was learned, and what was left out.

    Attributes:
        options: of the method, as in params.yaml.
        paths: image path by role.
        state: entries of the method's state dict; those missing keep the start values of the method.
        unused: keys of the checkpoint that the method saves and never uses.
        told: what else the checkpoint tells, for the card.
    """

    options: dict[str, Any]
    paths: dict[str, ImagePath]
    state: dict[str, Tensor]
    unused: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)


def dual_path(backbone: Backbone) -> ImagePath:
    """V-V in the last 19 blocks, no final norm on the image feature: released AnomalyCLIP and FAPrompt."""
    return ImagePath(attention="vv", first_block=max(1, backbone.vision_layers - 18), image_norm=False)


def check_words(part: Section, backbone: Backbone, side: str, prompts: int, learned: int, words: str) -> None:
    """Compare the frozen words that a checkpoint carries with those flawline would say.

    They tell two things that no shape tells: which sentence was tuned, and on which text tower.

    Args:
        part: holds tokenized_prompts_<side>, token_prefix_<side> and token_suffix_<side>.
        backbone: the text tower the prompts are to be used with.
        side: `pos` or `neg`.
        prompts: prompts of that side.
        learned: learned tokens of each.
        words: what follows them.

    Raises:
        FlawlineError: other words, or the token table of another tower.
    """
    length, width = backbone.context_length, backbone.text_width
    ids = part.take(f"tokenized_prompts_{side}", 1, prompts, length, whole=True)
    first = part.take(f"token_prefix_{side}", 1, prompts, 1, width)
    rest = part.take(f"token_suffix_{side}", 1, prompts, length - 1 - learned, width)
    expected = PromptTemplate.context(learned, words).tokenize(backbone)
    fixed = torch.ones(length, dtype=torch.bool)
    fixed[expected.slots] = False
    if not (ids[0][:, fixed] == expected.ids[fixed]).all():
        raise part.wrong(f"tokenized_prompts_{side}", f"spells other words than '{words}'")
    frozen = embed(backbone, expected.ids)[fixed].cpu()
    if float((torch.cat([first, rest], 2)[0] - frozen).abs().max() / frozen.abs().max()) > _ROUNDING:
        raise part.wrong(
            f"token_suffix_{side}",
            f"its words are not those of {backbone.settings.name} with weights {backbone.settings.weights}",
        )
