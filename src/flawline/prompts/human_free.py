"""Human-Free prompting (arXiv 2406.18197): prompts learned from synthetic anomalies on good images only.

Reconstruction: only the abstracts and the introduction could be read. FACT: noise on the object (OAGM, see
flawline.synth) makes the anomalies; a dynamic meta-prompt that starts from general anomaly semantics keeps the
gradient from overfitting them (MPTS), with a coefficient lambda of which 1 was best; patches attend to near patches
only (LAA, an image path). CHOICE: the template, the losses, the projection rule (ProGrad, arXiv 2205.14865), the
image score, tuning across categories of one data set instead of one model a category.

Dimensions: P prompt variants, M context tokens, W text width, D joint.
"""

from itertools import cycle, islice
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.prompts.shared.base import TuningStage
from flawline.prompts.shared.meta import STATES, GuidedOptions, MetaGuided, started
from flawline.prompts.shared.sentences import GENERAL_ABNORMAL, GENERAL_NORMAL

# Where the contexts start: general states, as the meta-prompt's; more variants start over.
PHRASES = {
    "good": ("a flawless", "a perfect", "an undamaged", "an intact"),
    "defective": ("a damaged", "an abnormal", "a flawed", "a defective"),
}
_BOTH = "both"


class HumanFreeOptions(GuidedOptions):
    """Options of Human-Free; see docs/params.md.

    Attributes:
        variants: P, prompts a state, whose raw text features are averaged.
        context_tokens: M, learned tokens of a prompt.
        inner_product: what decides a conflict with the guide: each `state`'s contexts alone, or all together
            (`global`).
        meta: `dynamic` follows the learned prompts with `meta_momentum` after `meta_warmup` of the epochs;
            `static` never moves; `hard` becomes the learned prompts after each epoch from then on.
        meta_momentum: of the moving meta-prompt; 1: it never moves.
        meta_warmup: share of the epochs before the meta-prompt starts to move.
    """

    variants: Annotated[int, Field(ge=1, le=16)] = 1
    context_tokens: Annotated[int, Field(ge=1, le=64)] = 16
    epochs: Annotated[int, Field(ge=1)] = 20
    inner_product: Literal["state", "global"] = "state"
    meta: Literal["dynamic", "static", "hard"] = "dynamic"
    meta_momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    meta_warmup: Annotated[float, Field(ge=0, le=1)] = 0.2


class HumanFree(MetaGuided):
    """The loop projects each parameter tensor on its own: one tensor a state, or one for both (`global`)."""

    name = "human_free"
    fidelity = "reconstruction"
    score_formula = "(p_image + max of map) / 2"
    Options = HumanFreeOptions
    options: HumanFreeOptions

    def __init__(self, backbone: Backbone, options: HumanFreeOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        generator = torch.Generator().manual_seed(seed)
        contexts = {}
        for state in STATES:
            phrases = list(islice(cycle(PHRASES[state]), options.variants))
            start = started(backbone, options.context_tokens, phrases, generator)
            contexts[state] = start if options.variants > 1 else start[0]
        if options.inner_product == "global":
            contexts = {_BOTH: torch.stack([contexts[state] for state in STATES])}
        self.contexts = nn.ParameterDict({name: nn.Parameter(start) for name, start in contexts.items()})

    def context(self, state: str) -> Tensor:
        """The learned tokens of a state: [P, M, W]."""
        both = self.options.inner_product == "global"
        tokens: Tensor = self.contexts[_BOTH][STATES.index(state)] if both else self.contexts[state]
        return tokens if tokens.ndim == 3 else tokens[None]

    def text_features(self, noun: str) -> Tensor:
        template = PromptTemplate.context(self.options.context_tokens, f"{noun}.").tokenize(self.backbone)
        base = embed(self.backbone, template.ids)
        tokens = torch.cat([self.context(state) for state in STATES])
        prompts = fill(base.expand(len(tokens), -1, -1), template.slots, tokens)
        features = encode_prompts(self.backbone, prompts, torch.tensor([template.eot] * len(prompts)))
        return F.normalize(features.unflatten(0, (len(STATES), -1)).mean(1), dim=-1)

    def stages(self) -> list[TuningStage]:
        o = self.options
        return [
            TuningStage(
                name="contexts",
                trains=("contexts.",),
                epochs=o.epochs,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses=self.task_losses(),
                guidance=o.guidance,
                guidance_weight=o.guidance_weight,
            )
        ]

    def after_epoch(self, progress: float) -> None:
        """The meta-prompt follows the learned prompts after a warm-up (momentum 1: static)."""
        if self.options.meta != "static" and progress > self.options.meta_warmup:
            self.teachers = self.moved(0.0 if self.options.meta == "hard" else self.options.meta_momentum)

    def learned_tokens(self) -> dict[str, Tensor]:
        tokens = {state: self.context(state).detach() for state in STATES}
        if self.options.variants == 1:
            return {state: variants[0] for state, variants in tokens.items()}
        return {
            f"{state} {k}": one for state, variants in tokens.items() for k, one in enumerate(variants, 1)
        }

    def words(self) -> dict[str, list[str]]:
        return {
            "template": [f"[V]×{self.options.context_tokens} {{noun}}."],
            "meta_normal": list(GENERAL_NORMAL),
            "meta_abnormal": list(GENERAL_ABNORMAL),
        }


Method = HumanFree
