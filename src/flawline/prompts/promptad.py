"""PromptAD (CVPR 2024): prompts learned from a few good images of one product, and a memory of their patches.

One prompt set carries both models of the paper: `cls` scores images, `seg` makes maps. They share no parameter, so
training them together on the sum of their losses is training them apart.

FACT: `[N×4] words.` is good; defective are the same contexts before hand-written states (semantic concatenation) and
before one learned token, `[N×4][A] words.`; contrastive loss, explicit margin, 0.001 × match; harmonic fusion of text
and memory; one model a product. CODE: the logit scale is used as stored (its logarithm); the pixel margin sums over
tokens; pairs are (i mod P, i mod A); memory taps are overwritten by the next block. All are options. CHOICE:
checkpoints are never picked on test images; no defect of a product is known beforehand unless `states` tell one.

Dimensions: B images, N tokens, D joint, P normal and A abnormal contexts, S states, W text width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.errors import FlawlineError
from flawline.prompts.shared.base import MethodOptions, PromptMethod, TuningStage
from flawline.prompts.shared.batches import Batch, Inputs, Prediction, rows_by
from flawline.prompts.shared.fusion import harmonic
from flawline.prompts.shared.maps import finish_maps, upsample
from flawline.prompts.shared.memory import Kept, PatchMemory, categories_of
from flawline.prompts.shared.one_class import OneClassText

BRANCHES = ("cls", "seg")
STATES = (
    "damaged {}", "flawed {}", "abnormal {}", "imperfect {}", "blemished {}",
    "{} with flaw", "{} with defect", "{} with damage",
)  # fmt: skip
_MEMORY = "memory"
_PAIR = ".pair"
_INIT_DEVIATION = 0.02
Phrase = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$", max_length=80)]
Count = Annotated[int, Field(ge=1, le=64)]


class PromptAdOptions(MethodOptions):
    """Options of PromptAD; see docs/params.md.

    Attributes:
        memory_path: image path, or paths, of the memory; null: `image_path` itself. Paper: plain, tower space, two
            levels k and l. Released: two paths qk, tower space, first_block and level k + 1, and l + 1 the same:
            a block's output plus the next block's attention, which is what overwritten taps hold.
        shots: good images a category that are remembered, and trained on, before scoring.
        tune_on: `support`: from the seed's contexts on each category's own good images (paper); `train`: once, on
            the training set's; `both`: first there, then on each category's.
        normal_contexts, normal_contexts_seg: P of the two branches. context_tokens: learned tokens of each.
        abnormal_contexts, abnormal_tokens: A, and the learned tokens of each.
        states: hand-written states of single products, by noun, `{}` for the noun: prior knowledge of defects.
        pairs: learned prompts of every normal with every abnormal context, or only (i mod P, i mod A) (released).
        logit_scale: `log`: the logarithm of the backbone's (released, about 4.6); `exp`: 1 / temperature.
        seg_margin: sums squared distances over `features` of a token (paper) or over `tokens` (released).
        margin: of the hinge. match_weight: of the match loss.
    """

    noun: Literal["category", "object"] = "category"
    memory_path: str | list[str] | None = None
    shots: Annotated[int, Field(ge=1, le=1024)] = 4
    tune_on: Literal["support", "train", "both"] = "support"
    normal_contexts: Count = 3
    normal_contexts_seg: Count = 1
    context_tokens: Count = 4
    abnormal_contexts: Count = 4
    abnormal_tokens: Count = 1
    states: dict[str, list[Phrase]] = Field(default_factory=dict)
    pairs: Literal["all", "modulo"] = "all"
    logit_scale: Literal["log", "exp"] = "log"
    seg_margin: Literal["features", "tokens"] = "features"
    margin: Annotated[float, Field(ge=0)] = 0.0
    match_weight: Annotated[float, Field(ge=0)] = 0.001
    epochs: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=2)] = 400
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    final_rate: Annotated[float, Field(ge=0)] = 1e-5


@dataclass(frozen=True)
class PromptAdPrediction(Prediction):
    """A prediction and the text features behind it: noun → branch → text; `rows` of the batch by noun."""

    texts: dict[str, dict[str, OneClassText]]
    rows: dict[str, Tensor]


class PromptAd(PromptMethod):
    name = "promptad"
    fidelity = "paper"
    score_formula = "1 / (1/p_image + 1/max memory map)"
    Options = PromptAdOptions
    options: PromptAdOptions

    def __init__(self, backbone: Backbone, options: PromptAdOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        generator, width = torch.Generator().manual_seed(seed), backbone.text_width

        def draw(count: int, tokens: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(count, tokens, width, generator=generator) * _INIT_DEVIATION)

        o = options
        for branch, normal in zip(BRANCHES, (o.normal_contexts, o.normal_contexts_seg), strict=True):
            good, bad = draw(normal, o.context_tokens), draw(o.abnormal_contexts, o.abnormal_tokens)
            self.add_module(branch, nn.ParameterDict({"normal": good, "abnormal": bad}))
        self.memory = PatchMemory()
        # contexts tuned on a category's good images: `<category>/<parameter name>`; of imported sets, whose contexts
        # nobody knows, the prototypes: `<category>/<branch>.pair`
        self.adapted = Kept()
        self.scale = log(backbone.logit_scale) if o.logit_scale == "log" else 1 / o.temperature
        self._pairs: dict[tuple[str, str], dict[str, Tensor]] = {}

    def more_paths(self) -> dict[str, str]:
        named = self.options.memory_path or []
        paths = [named] if isinstance(named, str) else named
        return {_MEMORY if k == 1 else f"{_MEMORY}_{k}": path for k, path in enumerate(paths, 1)}

    # --- prompts --------------------------------------------------------------------------------------------
    def encode(self, branch: str, noun: str, contexts: Mapping[str, Tensor] | None = None) -> OneClassText:
        """Text features of a branch, of `contexts` by parameter name (default: the method's own)."""
        contexts = dict(self.named_parameters()) if contexts is None else contexts
        normal, abnormal = contexts[f"{branch}.normal"], contexts[f"{branch}.abnormal"]
        first, second = self._learned_pairs(len(normal), len(abnormal))
        phrases = [state.format(noun) for state in ("{}", *STATES, *self.options.states.get(noun, []))]
        pieces = [self._prompts(f"{phrase}.", normal) for phrase in phrases]
        pieces += [self._prompts(f"{noun}.", torch.cat([normal[first], abnormal[second]], dim=1))]
        prompts, ends = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        raw = encode_prompts(self.backbone, prompts, ends)
        return OneClassText(*raw.split([len(normal), len(raw) - len(normal) - len(first), len(first)]))

    def _prompts(self, words: str, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [P, T, W] and end positions [P] of each of `contexts` [P, k, W] before `words`."""
        template = PromptTemplate.context(contexts.shape[1], words).tokenize(self.backbone)
        base = embed(self.backbone, template.ids).expand(len(contexts), -1, -1)
        return fill(base, template.slots, contexts), torch.full((len(contexts),), template.eot)

    def _learned_pairs(self, normal: int, abnormal: int) -> tuple[Tensor, Tensor]:
        i = torch.arange(normal * abnormal)
        return (i // abnormal, i % abnormal) if self.options.pairs == "all" else (i % normal, i % abnormal)

    @property
    def needs_support(self) -> bool:
        return True

    def text_features(self, noun: str) -> Tensor:
        """The image branch's prototypes [2, D]."""
        return self.encode("cls", noun).pair

    def words(self) -> dict[str, list[str]]:
        return {"states": list(STATES)} | {f"states of {n}": list(s) for n, s in self.options.states.items()}

    def learned_tokens(self) -> dict[str, Tensor]:
        shared = dict(self.named_parameters()) if self.stages() else {}
        return {
            name: value.detach().flatten(0, 1)
            for name, value in sorted((shared | self.adapted.of).items())
            if not name.endswith(_PAIR)
        }

    # --- tuning ---------------------------------------------------------------------------------------------
    def stages(self) -> list[TuningStage]:
        return [self._stage()] if self.options.tune_on != "support" else []

    def _stage(self) -> TuningStage:
        o = self.options
        terms = {"contrastive": 1.0, "margin": 1.0, "match": o.match_weight}
        return TuningStage(
            name="contexts",
            trains=tuple(f"{branch}." for branch in BRANCHES),
            epochs=o.epochs,
            batch=o.batch,
            learning_rate=o.learning_rate,
            losses={f"{branch}_{term}": weight for branch in BRANCHES for term, weight in terms.items()},
            final_rate=o.final_rate,
        )

    def predict(self, batch: Batch) -> PromptAdPrediction:
        return self._predict(batch.inputs, None)

    def _predict(self, inputs: Inputs, contexts: Mapping[str, Tensor] | None) -> PromptAdPrediction:
        rows = rows_by(self.nouns_of(inputs))
        texts = {noun: {branch: self.encode(branch, noun, contexts) for branch in BRANCHES} for noun in rows}
        order = torch.cat(list(rows.values())).argsort()
        image = torch.cat([self._compare(inputs.cls[k], texts[n]["cls"].pair) for n, k in rows.items()])
        patches = torch.cat([self._compare(inputs.patches[k], texts[n]["seg"].pair) for n, k in rows.items()])
        pairs = torch.cat([texts[n]["cls"].pair.expand(len(k), 2, -1) for n, k in rows.items()])
        return PromptAdPrediction(image[order], patches[order], pairs[order], texts, rows)

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The three losses of both branches on the good images of the batch, a mean over these.

        Terms are `<branch>_<contrastive | margin | match>`; see `OneClassText.losses`.
        """
        assert isinstance(prediction, PromptAdPrediction)
        total: dict[str, Tensor] = {}
        over = {"cls": -1, "seg": 1 if self.options.seg_margin == "tokens" else -1}
        good = int((batch.labels == 0).sum())
        for noun, rows in prediction.rows.items():
            picked = rows[batch.labels[rows] == 0]
            if len(picked):
                features = {"cls": batch.cls[picked, None], "seg": batch.patches[picked].flatten(1, 2)}
                for branch, text in prediction.texts[noun].items():
                    terms = text.losses(features[branch], self.scale, self.options.margin, over[branch])
                    for name, value in terms.items():
                        key = f"{branch}_{name}"
                        total[key] = total.get(key, torch.zeros(())) + value * len(picked) / good
        return total or {name: prediction.image.sum() * 0 for name in self._stage().losses}

    # --- few good images ------------------------------------------------------------------------------------
    def remember(self, good: Inputs) -> None:
        """Fill the memory and, unless tuning is on the training set alone, tune contexts for each category.

        Categories of an imported set stay as they were imported.
        """
        known = {name.partition("/")[0] for name in self.adapted.of if name.endswith(_PAIR)}
        of = categories_of(good.categories, len(good))
        good = good.rows(
            torch.tensor([k for k, name in enumerate(of) if name not in known], dtype=torch.int64)
        )
        if not len(good):
            return
        self.memory.fill(self._taps(good), good.categories)
        if self.options.tune_on != "train":
            for category, rows in rows_by(categories_of(good.categories, len(good))).items():
                for name, value in self._adapt(good.rows(rows)).items():
                    self.adapted.of[f"{category}/{name}"] = value
        self.unfold()

    def _adapt(self, good: Inputs) -> dict[str, Tensor]:
        """Contexts tuned on the good images of one category, all of them in each step (the paper's batch of 400).

        The staged loop pairs good images with anomalous ones; here are none.
        """
        stage = self._stage()
        contexts = {name: value.detach().clone().requires_grad_() for name, value in self.named_parameters()}
        rates = (stage.learning_rate, stage.momentum)
        optimiser = torch.optim.SGD(contexts.values(), *rates, weight_decay=stage.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, stage.epochs, stage.final_rate)
        batch = Batch(good, torch.zeros(len(good), dtype=torch.long), torch.empty(0))
        for _ in range(stage.epochs):
            with torch.enable_grad():
                terms = self.own_losses(batch, self._predict(good, contexts))
                loss = torch.stack([stage.losses[name] * term for name, term in sorted(terms.items())]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        if not all(value.isfinite().all() for value in contexts.values()):
            raise FlawlineError(
                "tuning promptad on good images diverged", "lower methods.promptad.learning_rate"
            )
        return {name: value.detach() for name, value in contexts.items()}

    def unfold(self) -> None:
        super().unfold()
        self._pairs.clear()

    def _taps(self, inputs: Inputs) -> Tensor:
        """What the memory holds of images: [B, levels of all its paths, N, W or D]."""
        roles = list(self.more_paths())
        return torch.cat([inputs.more[role] for role in roles], 1) if roles else inputs.patches

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size]; the category of each image picks its memory and its contexts.

        Raises:
            FlawlineError: nothing is remembered of a category.
        """
        visual = self.memory.distance(self._taps(inputs), inputs.categories).mean(1)
        image, patches = torch.empty(len(inputs)), torch.empty_like(visual)
        categories = map(self.memory.resolve, categories_of(inputs.categories, len(inputs)))
        pairs_of = zip(categories, self.nouns_of(inputs), strict=True)
        for (category, noun), rows in rows_by(list(pairs_of)).items():
            pairs = self.prototypes(category, noun)
            image[rows] = self._compare(inputs.cls[rows], pairs["cls"])[:, 1]
            patches[rows] = self._compare(inputs.patches[rows], pairs["seg"])[..., 1].mean(1)
        sigma = self.options.smoothing * size / self.backbone.image_size
        highest = upsample(visual, size).flatten(1).amax(1)
        return harmonic(image, highest), finish_maps(harmonic(patches, visual), size, sigma)

    @torch.no_grad()
    def prototypes(self, category: str, noun: str) -> dict[str, Tensor]:
        """Prototypes [2, D] of both branches: imported ones, or with the category's contexts, encoded once."""
        key, kept = (category, noun), self.adapted.of
        imported = {branch: kept.get(f"{category}/{branch}{_PAIR}") for branch in BRANCHES}
        if key not in self._pairs:
            own = {name: kept.get(f"{category}/{name}", value) for name, value in self.named_parameters()}
            self._pairs[key] = {
                branch: self.encode(branch, noun, own).pair if pair is None else pair
                for branch, pair in imported.items()
            }
        return self._pairs[key]

    def _compare(self, features: Tensor, pair: Tensor) -> Tensor:
        """Probabilities (good, defective) [..., 2] of unit features [..., D]."""
        return (self.scale * features @ pair.T).softmax(-1)


Method = PromptAd
