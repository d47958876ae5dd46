"""Human-Free prompting (arXiv 2406.18197): prompts learned from synthetic anomalies on good images only.

Reconstruction: only the abstracts and the introduction could be read. FACT: noise on the object (OAGM, see
flawline.synth) makes the anomalies; a dynamic meta-prompt that starts from general anomaly semantics keeps the
gradient from overfitting them (MPTS), with a coefficient lambda of which 1 was best; patches attend to near patches
only (LAA, an image path). CHOICE: the template, the losses, the projection rule (ProGrad, arXiv 2205.14865), the
image score, tuning across categories of one data set instead of one model a category.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.prompts.base import OBJECT, Batch, MethodOptions, Prediction, PromptMethod, TuningStage
from flawline.prompts.sentences import GENERAL_ABNORMAL, GENERAL_NORMAL, GENERAL_TEMPLATES, prototypes

STATES = ("good", "defective")
_INIT_DEVIATION = 0.02


class HumanFreeOptions(MethodOptions):
    """Options of Human-Free; see docs/params.md."""

    context_tokens: Annotated[int, Field(ge=1, le=64)] = 16
    epochs: Annotated[int, Field(ge=1)] = 20
    batch: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    guidance: Literal["projection", "loss", "none"] = "projection"
    guidance_weight: Annotated[float, Field(ge=0)] = 1.0
    guide_temperature: Annotated[float, Field(gt=0)] = 4.0
    meta_momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    meta_warmup: Annotated[float, Field(ge=0, le=1)] = 0.2


class HumanFree(PromptMethod):
    name = "human_free"
    fidelity = "reconstruction"
    score_formula = "(p_image + max of map) / 2"
    Options = HumanFreeOptions
    options: HumanFreeOptions

    def __init__(self, backbone: Backbone, options: HumanFreeOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        generator = torch.Generator().manual_seed(seed)
        shape = (options.context_tokens, backbone.text_width)
        contexts = {}
        for state, phrase in zip(STATES, ("a flawless", "a damaged"), strict=True):
            start = torch.randn(shape, generator=generator) * _INIT_DEVIATION
            words = self._word_embeddings(phrase)[: len(start)]
            start[: len(words)] += words
            contexts[state] = nn.Parameter(start)
        self.contexts = nn.ParameterDict(contexts)
        meta = prototypes(backbone, GENERAL_NORMAL, GENERAL_ABNORMAL, OBJECT, list(GENERAL_TEMPLATES))
        self.meta = meta  # [2, D]; training state, not part of the prompt set

    def _word_embeddings(self, phrase: str) -> Tensor:
        ids = self.backbone.tokenize([phrase])[0]
        return embed(self.backbone, ids[1 : int(ids.argmax())])

    def text_features(self, noun: str) -> Tensor:
        template = PromptTemplate.context(self.options.context_tokens, f"{noun}.").tokenize(self.backbone)
        base = embed(self.backbone, template.ids)
        prompts = torch.stack([fill(base, template.slots, self.contexts[state]) for state in STATES])
        return F.normalize(encode_prompts(self.backbone, prompts, torch.tensor([template.eot] * 2)), dim=-1)

    def stages(self) -> list[TuningStage]:
        o = self.options
        return [
            TuningStage(
                name="contexts",
                trains=("contexts.",),
                epochs=o.epochs,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses={"image_ce": 1.0, "focal": 1.0, "dice": 1.0},
                guidance=o.guidance,
                guidance_weight=o.guidance_weight,
            )
        ]

    def guide_loss(self, batch: Batch, prediction: Prediction) -> Tensor:
        """KL(meta-prompt ‖ prompts) of patches and images, both softened (section 6 of the reconstruction)."""
        softness = self.options.temperature * self.options.guide_temperature
        total = torch.zeros(())
        for features in (batch.cls[:, None], batch.patches):
            taught = (features @ self.meta.T / softness).log_softmax(-1).flatten(0, 1)
            learned = (features @ prediction.text.mT / softness).log_softmax(-1).flatten(0, 1)
            total = total + F.kl_div(learned, taught, reduction="batchmean", log_target=True)
        return total

    @torch.no_grad()
    def after_epoch(self, progress: float) -> None:
        """The dynamic meta-prompt follows the learned prompts after a warm-up (momentum 1: static)."""
        if progress > self.options.meta_warmup:
            mu = self.options.meta_momentum
            self.meta = F.normalize(mu * self.meta + (1 - mu) * self.text_features(OBJECT), dim=-1)

    def image_score(self, image: Tensor, maps: Tensor) -> Tensor:
        return (image + maps.flatten(1).amax(1)) / 2

    def learned_tokens(self) -> dict[str, Tensor]:
        return {state: self.contexts[state].detach() for state in STATES}

    def words(self) -> dict[str, list[str]]:
        return {
            "template": [f"[V]×{self.options.context_tokens} {{noun}}."],
            "meta_normal": list(GENERAL_NORMAL),
            "meta_abnormal": list(GENERAL_ABNORMAL),
        }


Method = HumanFree
