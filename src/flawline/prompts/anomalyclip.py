"""AnomalyCLIP (ICLR 2024, arXiv 2310.18961): one normal and one abnormal prompt that name no object.

FACT: object-agnostic prompts `[V×12] object.` and `[W×12] damaged object.`, deep text tokens, a V-V dual path for the
patches, glocal loss, trained on one data set and used on others. CODE: one level (the authors took the four levels
back in 2025-04), image feature without the final norm (both in the image path), N(0, 0.02²) starts, temperature 0.07
as a divisor, loss = CE + 4·(focal + dice + dice), Adam 1e-3 (0.5, 0.999), batch 8, 15 epochs, map (a + 1 - n) / 2
then sigma 4, image score from the text alone. CHOICE: maps of several levels are averaged where the code sums
(scores stay in 0..1, the order is the same); batches are half good, half synthetic anomalies.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.deep_text import deep_tokens, encode_deep, start_tokens
from flawline.clip.text_path import PromptTemplate, embed, fill
from flawline.prompts.shared.base import MethodOptions, PromptMethod, TuningStage
from flawline.prompts.shared.batches import Batch, Prediction

STATES = ("good", "defective")


class AnomalyCLIPOptions(MethodOptions):
    """Options of AnomalyCLIP.

    Attributes:
        temperature: divides cosines before the softmax.
        smoothing: Gaussian sigma of the map, in pixels of the backbone's input.
        context_tokens: learned tokens of each prompt.
        defect_word: stands between the learned tokens and the noun of the abnormal prompt.
        deep_depth: last text layer with deep tokens (2..depth); 1: none. Ends with the tower.
        deep_length: deep tokens a layer.
        deep_half: round deep tokens to float16, as released code does.
        local_weight: of focal and dice beside the image's cross-entropy.
        supervision: where the anomalies come from; the paper trains on real ones.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.07
    smoothing: Annotated[float, Field(ge=0)] = 4.0
    context_tokens: Annotated[int, Field(ge=1, le=64)] = 12
    defect_word: Annotated[str, Field(pattern=r"^[^{}]+$")] = "damaged"
    deep_depth: Annotated[int, Field(ge=1)] = 9
    deep_length: Annotated[int, Field(ge=1, le=64)] = 4
    deep_half: bool = False
    local_weight: Annotated[float, Field(ge=0)] = 4.0
    epochs: Annotated[int, Field(ge=1)] = 15
    batch: Annotated[int, Field(ge=2)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    supervision: Literal["synthetic", "real", "both"] = "synthetic"


class AnomalyCLIP(PromptMethod):
    name = "anomalyclip"
    fidelity = "released-code"
    score_formula = "p_image"
    Options = AnomalyCLIPOptions
    options: AnomalyCLIPOptions

    def __init__(self, backbone: Backbone, options: AnomalyCLIPOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        generator = torch.Generator().manual_seed(seed)
        shape = (options.context_tokens, backbone.text_width)
        self.contexts = nn.ParameterDict({state: start_tokens(shape, generator) for state in STATES})
        self.deep = deep_tokens(backbone, options.deep_depth, options.deep_length, generator)

    def _sentence(self, state: str, noun: str) -> str:
        word = self.options.defect_word if state == "defective" else ""
        return f"{word} {noun}.".strip()

    def raw_text(self, noun: str) -> Tensor:
        """Text features [2, D] before normalisation: good, defective."""
        prompts, ends = [], []
        for state in STATES:
            template = PromptTemplate.context(self.options.context_tokens, self._sentence(state, noun))
            tokens = template.tokenize(self.backbone)
            prompts.append(fill(embed(self.backbone, tokens.ids), tokens.slots, self.contexts[state]))
            ends.append(tokens.eot)
        return encode_deep(
            self.backbone, torch.stack(prompts), torch.tensor(ends), list(self.deep), self.options.deep_half
        )

    def text_features(self, noun: str) -> Tensor:
        return F.normalize(self.raw_text(noun), dim=-1)

    def stages(self) -> list[TuningStage]:
        o = self.options
        return [
            TuningStage(
                name="prompts",
                trains=("contexts.", "deep."),
                epochs=o.epochs,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses={"global_ce": 1.0, "focal": o.local_weight, "dice": o.local_weight},
                optimiser="adam",
                weight_decay=0.0,
                schedule="constant",
                supervision=o.supervision,
            )
        ]

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Cross-entropy of the image's logits; not of its probability, which a sharp softmax rounds to 0."""
        logits = (batch.cls[:, None] @ prediction.text.mT)[:, 0] / self.options.temperature
        return {"global_ce": F.cross_entropy(logits, batch.labels)}

    def learned_tokens(self) -> dict[str, Tensor]:
        return {state: self.contexts[state].detach() for state in STATES}

    def words(self) -> dict[str, list[str]]:
        count = self.options.context_tokens
        return {state: [f"[V]×{count} {self._sentence(state, '{noun}')}"] for state in STATES}


Method = AnomalyCLIP
