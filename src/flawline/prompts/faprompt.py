"""FAPrompt (ICCV 2025, arXiv 2410.10289): ten abnormality prompts, shifted by what the image's patches look like.

Dimensions: B images, L levels, N patches, D joint, W text width, K abnormal prompts, M patches in the prior.

FACT: compound prompts, one normal `[N×5] object.` and K abnormal `[N×5][A×2] damaged object.` that share the normal
tokens; abnormal features kept apart by an orthogonality loss; a prior made from the M most abnormal patches and added
to the abnormal tokens, so that every image has text features of its own. CODE: two passes (without and with the
prior), the prior's layers M·D → M·D/16 → W, the loss weights, a score in 0..1 that a focal loss takes for a logit,
sums over pairs and over good images, deep text tokens as in AnomalyCLIP, map = mean of both passes then sigma 10,
score = (p_image + (2·max of pass 1 + max of pass 2) / 3) / 2. The released code sorts the patches by score and then
reads patches 0..M-1 (`select: first10`); the paper's reading is the default. CHOICE: with several levels the patches
are chosen by the mean over the levels and read at the last; batches are half good, half synthetic anomalies.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.deep_text import deep_tokens, start_tokens
from flawline.clip.prompt_tree import PromptTree
from flawline.clip.text_path import PromptTemplate, embed
from flawline.errors import FlawlineError
from flawline.prompts.shared.base import MethodOptions, PromptMethod, TuningStage
from flawline.prompts.shared.batches import Batch, Inputs, Prediction, rows_by
from flawline.prompts.shared.maps import finish_maps
from flawline.tune.losses import orthogonality, shared_losses

_SCORED_AT_ONCE = 32  # images; each brings K prompts of its own
_FOCAL_GAMMA = 2


class FAPromptOptions(MethodOptions):
    """Options of FAPrompt.

    Attributes:
        temperature: divides cosines before the softmax.
        smoothing: Gaussian sigma of the map, in pixels of the backbone's input.
        normal_tokens: learned tokens of the normal prompt, which the abnormal prompts begin with.
        abnormal_tokens: learned tokens of its own that each abnormal prompt adds.
        abnormal_prompts: K.
        defect_word: stands between the learned tokens and the noun of the abnormal prompts.
        deep_depth: last text layer with deep tokens (2..depth); 1: none. Ends with the tower.
        deep_length: deep tokens a layer.
        deep_half: round deep tokens to float16, as released code does.
        prior: whether there is a second pass with the image's own prior.
        prior_patches: M.
        prior_hidden: width of the prior's hidden layer; null: M·D/16, as released.
        select: which patches make the prior: the M most abnormal ones, or the first M as in released code.
        score_loss: what the focal loss takes the score for: `logit` (released) or `probability`.
        specific_weight: of the second pass' focal and dice; orthogonality_weight, prior_weight, score_weight: of
            those terms.
        supervision: where the anomalies come from; the paper trains on real ones.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.07
    smoothing: Annotated[float, Field(ge=0)] = 10.0
    normal_tokens: Annotated[int, Field(ge=1, le=32)] = 5
    abnormal_tokens: Annotated[int, Field(ge=1, le=32)] = 2
    abnormal_prompts: Annotated[int, Field(ge=1, le=64)] = 10
    defect_word: Annotated[str, Field(pattern=r"^[^{}]+$")] = "damaged"
    deep_depth: Annotated[int, Field(ge=1)] = 9
    deep_length: Annotated[int, Field(ge=1, le=64)] = 4
    deep_half: bool = False
    prior: bool = True
    prior_patches: Annotated[int, Field(ge=1)] = 10
    prior_hidden: Annotated[int, Field(ge=1)] | None = None
    select: Literal["topk", "first10"] = "topk"
    score_loss: Literal["logit", "probability"] = "logit"
    specific_weight: Annotated[float, Field(ge=0)] = 0.5
    orthogonality_weight: Annotated[float, Field(ge=0)] = 0.1
    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    score_weight: Annotated[float, Field(ge=0)] = 1.0
    epochs: Annotated[int, Field(ge=1)] = 7
    batch: Annotated[int, Field(ge=2)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    supervision: Literal["synthetic", "real", "both"] = "synthetic"


@dataclass(frozen=True)
class TwoPass(Prediction):
    """Both passes. `patches` [B, L, N, 2] and `text` [B, 2, D] are of pass 1, `image` [B, 2] is of pass 2.

    Attributes:
        specific: patch probabilities of pass 2 [B, L, N, 2].
        specific_text: each image's own unit text features [B, 2, D].
        prior: what was added to the abnormal tokens [B, W].
        abnormal: raw features of the abnormal prompts in pass 1, for each of the batch's nouns [n, K, D].
    """

    specific: Tensor
    specific_text: Tensor
    prior: Tensor
    abnormal: Tensor


@dataclass(frozen=True)
class Prompts:
    """A noun's prompts in pass 1: raw features, normal [1, D] and abnormal [K, D], and the tree that made them."""

    noun: str
    tree: PromptTree
    normal: Tensor
    abnormal: Tensor

    @cached_property
    def text(self) -> Tensor:
        """The normal feature and the mean of the raw abnormal ones, unit length [2, D]."""
        return F.normalize(torch.cat([self.normal, self.abnormal.mean(0, keepdim=True)]), dim=-1)


class FAPrompt(PromptMethod):
    name = "faprompt"
    fidelity = "paper"
    score_formula = "(p_image + (2·max of pass 1 + max of pass 2) / 3) / 2"
    Options = FAPromptOptions
    options: FAPromptOptions

    def __init__(self, backbone: Backbone, options: FAPromptOptions, seed: int) -> None:
        """Raises FlawlineError where the backbone has fewer patches than the prior reads."""
        super().__init__(backbone, options, seed)
        o, width, patches = options, backbone.text_width, backbone.grid**2
        if o.prior and o.prior_patches > patches:
            raise FlawlineError(
                f"methods.faprompt.prior_patches: {o.prior_patches}, but {backbone.settings.name} sees {patches} "
                f"patches at {backbone.image_size} pixels",
                f"give 1 to {patches}, or a larger backbone.image_size",
            )
        generator = torch.Generator().manual_seed(seed)
        self.contexts = nn.ParameterDict()
        self.contexts["good"] = start_tokens((o.normal_tokens, width), generator)
        self.contexts["defective"] = start_tokens((o.abnormal_prompts, o.abnormal_tokens, width), generator)
        self.deep = deep_tokens(backbone, o.deep_depth, o.deep_length, generator)
        seen = o.prior_patches * backbone.dim
        hidden = o.prior_hidden or max(1, seen // 16)
        self.prior = prior_network(seen, hidden, width, generator) if o.prior else None

    # --- prompts ------------------------------------------------------------------------------------------
    def prompts(self, noun: str) -> Prompts:
        """The prompts of a noun, encoded as pass 1 reads them. They all begin with the normal tokens: one trunk."""
        start = embed(self.backbone, torch.tensor([self.backbone.tokenizer.sot_token_id]))
        trunk = torch.cat([start, self.contexts["good"].to(start.dtype)])
        tree = PromptTree(self.backbone, trunk, list(self.deep), self.options.deep_half)
        normal, abnormal = tree.encode(self._normal(noun), self._abnormal(noun, self.contexts["defective"]))
        return Prompts(noun, tree, normal, abnormal)

    def _normal(self, noun: str, times: int = 1) -> Tensor:
        """What follows the normal tokens in the normal prompt, so many times: [times, t, W]."""
        return self._words(f"{noun}.", 0).expand(times, -1, -1)

    def _abnormal(self, noun: str, own: Tensor) -> Tensor:
        """What follows the normal tokens in abnormal prompts with tokens of their own [P, k, W]: [P, t, W]."""
        words = self._words(f"{self.options.defect_word} {noun}.", self.options.abnormal_tokens)
        return torch.cat([own.to(words.dtype), words.expand(len(own), -1, -1)], dim=1)

    def _words(self, words: str, own: int) -> Tensor:
        """Embeddings [w, W] of the words after all learned tokens, with the end token."""
        count = self.options.normal_tokens + own
        tokens = PromptTemplate.context(count, words).tokenize(self.backbone)
        return embed(self.backbone, tokens.ids[1 + count : tokens.eot + 1])

    def own_abnormal(self, prompts: Prompts, prior: Tensor) -> Tensor:
        """Raw features of the abnormal prompts as images with a prior [B, W] read them: [B, K, D]."""
        own = (self.contexts["defective"] + prior[:, None, None]).flatten(0, 1)
        return prompts.tree.encode(self._abnormal(prompts.noun, own))[0].unflatten(0, (len(prior), -1))

    def text_features(self, noun: str) -> Tensor:
        return self.prompts(noun).text

    @torch.no_grad()
    def folded_prompts(self, noun: str) -> Prompts:
        """`prompts(noun)`, encoded once until `unfold()`."""
        cache: dict[tuple[str, str], Prompts] = self.__dict__.setdefault("_folded", {})
        if ("prompts", noun) not in cache:
            cache["prompts", noun] = self.prompts(noun)
        return cache["prompts", noun]

    # --- the two passes -----------------------------------------------------------------------------------
    @torch.no_grad()
    def chosen(self, patches: Tensor, text: Tensor) -> Tensor:
        """Which patches make the prior: int64 [B, M], by decreasing pass-1 score, equal ones in raster order.

        Every image is compared on its own, so that rounding, and with it the order of near ties, does not depend on
        the other images of the batch.
        """
        count = self.options.prior_patches
        if self.options.select == "first10":
            return torch.arange(count, device=patches.device).expand(len(patches), count)
        scores = [(one @ text.mT / self.options.temperature).softmax(-1)[..., 1].mean(0) for one in patches]
        return torch.stack(scores).sort(dim=-1, descending=True, stable=True).indices[:, :count]

    def prior_of(self, patches: Tensor, text: Tensor) -> Tensor:
        """The prior [B, W] of images with unit patch features [B, L, N, D] and pass-1 text [2, D]."""
        if self.prior is None:
            return patches.new_zeros(len(patches), self.backbone.text_width)
        rows = torch.arange(len(patches), device=patches.device)[:, None]
        prior: Tensor = self.prior(patches[:, -1][rows, self.chosen(patches, text)].flatten(1))
        return prior

    def two_passes(self, inputs: Inputs, prompts: Prompts) -> tuple[Prediction, Prediction, Tensor]:
        """Pass 1, pass 2 and the prior [B, W] of images of one noun."""
        text = prompts.text
        first = self.compare(inputs.cls, inputs.patches, text)
        prior = self.prior_of(inputs.patches, text)
        if self.prior is None:
            return first, first, prior
        own = F.normalize(self.own_abnormal(prompts, prior).mean(1), dim=-1)
        normal = text[0].expand_as(own)
        if self.options.deep_half and own.requires_grad:  # released code rounds its gradient once an image
            normal = F.normalize(prompts.tree.encode(self._normal(prompts.noun, len(own)))[0], dim=-1)
        return first, self.compare(inputs.cls, inputs.patches, torch.stack([normal, own], dim=1)), prior

    def predict(self, batch: Batch) -> TwoPass:
        order, parts, abnormal = [], [], []
        for noun, rows in rows_by(self.nouns_of(batch.inputs)).items():
            prompts = self.prompts(noun)
            first, second, prior = self.two_passes(batch.inputs.rows(rows), prompts)
            texts = [one.text.expand(len(rows), 2, -1) for one in (first, second)]
            parts.append((second.image, first.patches, texts[0], second.patches, texts[1], prior))
            abnormal.append(prompts.abnormal)
            order.append(rows)
        back = torch.cat(order).argsort()
        image, patches, text, specific, specific_text, prior = (
            torch.cat(pieces)[back] for pieces in zip(*parts, strict=True)
        )
        return TwoPass(image, patches, text, specific, specific_text, prior, torch.stack(abnormal))

    # --- tuning -------------------------------------------------------------------------------------------
    def stages(self) -> list[TuningStage]:
        o = self.options
        losses = {"focal": 1.0, "dice": 1.0, "global_ce": 1.0}
        losses |= {"score_focal": o.score_weight, "orthogonality": o.orthogonality_weight}
        if o.prior:
            losses |= {"focal_specific": o.specific_weight, "dice_specific": o.specific_weight}
            losses |= {"prior": o.prior_weight}
        return [
            TuningStage(
                name="prompts",
                trains=("contexts.", "deep.", "prior."),
                epochs=o.epochs,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses=losses,
                optimiser="adam",
                weight_decay=0.0,
                schedule="constant",
                supervision=o.supervision,
            )
        ]

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        assert isinstance(prediction, TwoPass)
        second = Prediction(prediction.image, prediction.specific, prediction.specific_text)
        local = shared_losses({"focal", "dice"}, batch, second)
        logits = (batch.cls[:, None] @ prediction.specific_text.mT)[:, 0] / self.options.temperature
        return {
            "focal_specific": local["focal"],
            "dice_specific": local["dice"],
            "global_ce": F.cross_entropy(logits, batch.labels),
            "score_focal": self.score_focal(self.combined(prediction, second)[0], batch.labels),
            "orthogonality": orthogonality(prediction.abnormal).mean(),
            "prior": (prediction.prior.square().mean(-1) * (batch.labels == 0)).sum(),
        }

    def score_focal(self, score: Tensor, labels: Tensor) -> Tensor:
        """Binary focal loss of image scores [B] in 0..1 against labels 0/1 [B]."""
        if self.options.score_loss == "logit":
            entropy = F.binary_cross_entropy_with_logits(score, labels.to(score.dtype), reduction="none")
        else:
            entropy = -torch.where(labels == 1, score, 1 - score).clamp_min(1e-6).log()
        return ((1 - (-entropy).exp()) ** _FOCAL_GAMMA * entropy).mean()

    # --- scoring ------------------------------------------------------------------------------------------
    def combined(self, first: Prediction, second: Prediction) -> tuple[Tensor, Tensor]:
        """Image scores [B] from the text and the highest patches; patches [B, N], the mean of both passes."""
        maps = [(1 - one.patches[..., 0]).mean(1) for one in (first, second)]
        peak = (2 * maps[0].amax(1) + maps[1].amax(1)) / 3
        return (1 - second.image[:, 0] + peak) / 2, (maps[0] + maps[1]) / 2

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        image = torch.empty(len(inputs))
        probability = torch.empty(len(inputs), inputs.patches.shape[2])
        for noun, of_noun in rows_by(self.nouns_of(inputs)).items():
            for rows in of_noun.split(_SCORED_AT_ONCE):
                first, second, _ = self.two_passes(inputs.rows(rows), self.folded_prompts(noun))
                scores, patches = self.combined(first, second)
                image[rows], probability[rows] = scores.float(), patches.float()
        return image, finish_maps(probability, size, self.options.smoothing * size / self.backbone.image_size)

    def learned_tokens(self) -> dict[str, Tensor]:
        abnormal = enumerate(self.contexts["defective"].detach(), 1)
        return {"good": self.contexts["good"].detach()} | {f"defective {k}": own for k, own in abnormal}

    def words(self) -> dict[str, Any]:
        o = self.options
        shared = f"[N]×{o.normal_tokens}"
        return {
            "good": [f"{shared} {{noun}}."],
            "defective": [f"{shared} [A]×{o.abnormal_tokens} {o.defect_word} {{noun}}."] * o.abnormal_prompts,
        }


def prior_network(seen: int, hidden: int, width: int, generator: torch.Generator) -> nn.Sequential:
    """Linear, ReLU, Linear: [B, seen] → [B, width]; uniform as torch draws them, but from the generator."""
    first, second = nn.utils.skip_init(nn.Linear, seen, hidden), nn.utils.skip_init(nn.Linear, hidden, width)
    with torch.no_grad():
        for layer in (first, second):
            for parameter in layer.parameters():
                parameter.uniform_(-(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
    return nn.Sequential(OrderedDict(linear1=first, relu=nn.ReLU(), linear2=second))


Method = FAPrompt
