"""DAPO (arXiv 2512.09446): defect words with learned context, and progressive deep prompts in both towers.

Dimensions: B images, L levels, N patches, D joint, W width, K defect words (classes: 0 good, then the words), E prompt
variants, S pixels a side of the masks.

FACT (paper, abstract and prompt equations): a fixed anchor and a defect word behind learned context that all defects
share, so that a new defect is a new word and no training; progressive prompts. CODE (boschresearch/
defect-aware-prompt-optimization, commit ad2ceab): templates, sizes, pooling, losses, optimiser, scores; checked number
by number. CHOICE: words for synthetic noises, classes only for defects that training images have, masks whole, levels
as shares of the depth, the map divided by the number of levels, `types: relative`.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip import progressive
from flawline.clip.backbone import Backbone
from flawline.data.defect_words import DEFECT_WORDS
from flawline.errors import FlawlineError
from flawline.prompts.shared.base import MethodOptions, PromptMethod, TuningStage
from flawline.prompts.shared.batches import Batch, Inputs, Judged, Prediction
from flawline.prompts.shared.fusion import FORMULAS, fuse
from flawline.settings import Block
from flawline.tune.type_losses import class_maps, foreground, level_losses

if TYPE_CHECKING:
    from flawline.tune.loop import TuningData

Words = Annotated[str, Field(min_length=1, max_length=80, pattern=r"\S")]
Depth = Block | Literal[0]
GOOD = "good"
_CHUNK = 16  # images a pass when scoring: memory does not grow with the batch
_WIDE = 512  # towers at least this wide recompute activations


class DapoOptions(MethodOptions):
    """Options of DAPO; see docs/params.md. `image_path` is not read: DAPO runs the image tower itself.

    Attributes:
        defects: word of each defect type (folder name, or noise of a synthetic anomaly); `samples` and `mvtec` are
            built-in lists. Defects with the same word are one class.
        one_word: this word for every defect (ablation of the defect words).
        train_words: `present`: classes are the words of defects that training images have; `all`: all listed.
        test_words: words that scoring asks for; none: the training words. Released code gives one list a data set.
        levels: blocks whose patches are read, as a number or as a share of the depth; one linear adapter each.
        text_depth, visual_depth: blocks with deep prompts; 0 for none.
        text_mode: `official`: full attention in the text tower, feature read `deep_tokens` places before the end
            token, as released; `clean`: causal attention, feature read at the end token.
        training_masks: `threshold` at one half; `truncate` (released): wholly marked pixels, so no outermost ones.
        types: image-level types by the image feature; `image`: as released; `relative`: less the mean image feature of
            the good training images, against words less the good prompt, so that what all share favours no word.
        image_score: `image`: the image feature's, as released; `mean`: its mean with the map's highest value.
        variants: prompts a state, averaged. context_tokens: learned tokens of each.
        deep_tokens: tokens inserted at each block. alpha: share of the block before in them.
        local_weight, global_weight: of focal and dice; of the image's cross-entropy. supervision: by which anomalies.
        recompute: gradient checkpointing; `auto`: for towers of width 512 and more.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.07
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    defects: Annotated[dict[str, Words], Field(min_length=1)] | Literal["samples", "mvtec"] = "samples"
    one_word: Words | None = None
    train_words: Literal["present", "all"] = "present"
    test_words: list[Words] = Field(default_factory=list)
    variants: Annotated[int, Field(ge=1, le=64)] = 10
    context_tokens: Annotated[int, Field(ge=1, le=32)] = 5
    deep_tokens: Annotated[int, Field(ge=1, le=64)] = 4
    text_depth: Depth = 1.0
    visual_depth: Depth = 1.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.01
    levels: Annotated[list[Block], Field(min_length=1)] = Field(
        default_factory=lambda: [0.25, 0.5, 0.75, 1.0]
    )
    text_mode: Literal["official", "clean"] = "official"
    training_masks: Literal["threshold", "truncate"] = "threshold"
    types: Literal["image", "relative"] = "image"
    image_score: Literal["image", "mean"] = "image"
    epochs: Annotated[int, Field(ge=1)] = 2
    batch: Annotated[int, Field(ge=2)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    local_weight: Annotated[float, Field(ge=0)] = 4.0
    global_weight: Annotated[float, Field(ge=0)] = 1.0
    supervision: Literal["synthetic", "real", "both"] = "synthetic"
    recompute: Literal["auto", "always", "never"] = "auto"


@dataclass(frozen=True)
class DapoPrediction(Prediction):
    """`image` [B, 2]: good against the merged defect; `logits` [B, 2]: before the softmax; `types` [B, 1 + K]."""

    logits: Tensor
    types: Tensor


class Dapo(PromptMethod):
    name = "dapo"
    fidelity = "released-code"
    score_formula = "p_image"
    Options = DapoOptions
    options: DapoOptions
    reads_pixels = knows_types = True
    reads_cls = reads_patches = False

    deep_text: nn.Parameter | None
    deep_visual: nn.Parameter | None
    trained: Tensor  # which words tuning saw; part of the prompt set
    centre: Tensor  # of good images

    def __init__(self, backbone: Backbone, options: DapoOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        object.__setattr__(self, "score_formula", FORMULAS[options.image_score])
        o, generator = options, torch.Generator().manual_seed(seed)
        listed = o.defects if isinstance(o.defects, dict) else DEFECT_WORDS[o.defects]
        self.listed = dict.fromkeys(listed, o.one_word) if o.one_word else listed
        self.vocabulary = list(dict.fromkeys(self.listed.values()))
        self.levels = progressive.tapped_blocks("methods.dapo.levels", o.levels, backbone)
        text = progressive.first_blocks("methods.dapo.text_depth", o.text_depth, backbone.text_layers)
        visual = progressive.first_blocks("methods.dapo.visual_depth", o.visual_depth, backbone.vision_layers)
        words = partial(progressive.word_like, backbone, generator)
        self.context_good, self.context_defect = (words(o.variants, o.context_tokens) for _ in range(2))
        self.deep_text = words(text, o.deep_tokens) if text else None
        patches = partial(progressive.patch_like, backbone, generator)
        self.deep_visual = patches(visual, o.deep_tokens) if visual else None
        self.adapters = nn.ModuleList(progressive.joint_adapter(backbone, generator) for _ in self.levels)
        known = torch.ones(len(self.vocabulary), dtype=torch.bool, device=backbone.device)
        self.register_buffer("trained", known)
        self.register_buffer("centre", torch.zeros(backbone.dim, device=backbone.device))

    # --- words and prompts --------------------------------------------------------------------------------
    @property
    def train_words(self) -> list[str]:
        """The words of classes 1..K in training."""
        return [word for word, used in zip(self.vocabulary, self.trained.tolist(), strict=True) if used]

    @property
    def test_words(self) -> list[str]:
        """The words that binary scores ask for."""
        return list(dict.fromkeys(self.options.test_words)) or self.train_words

    def type_words(self) -> list[str]:
        return self.test_words

    def text_features(self, noun: str) -> Tensor:
        return self.encode_words(self.train_words, noun)

    def folded(self, noun: str) -> Tensor:
        return self.folded_words(self.test_words, noun)

    @torch.no_grad()
    def folded_words(self, words: list[str], noun: str) -> Tensor:
        """`encode_words`, encoded once until `unfold()`."""
        cache: dict[str, Tensor] = self.__dict__.setdefault("_folded", {})
        key = "\n".join([noun, *words])
        if key not in cache:
            cache[key] = self.encode_words(words, noun)
        return cache[key]

    def encode_words(self, words: list[str], noun: str) -> Tensor:
        """Unit text features [1 + K, D] of good and of K defect words, trained or not: means over the E variants."""
        o = self.options
        states = [f"flawless {noun}", *(f"{word} anomaly {noun}" for word in words)]
        shared = self.context_defect[None].expand(len(words), -1, -1, -1)
        contexts = torch.cat([self.context_good[None], shared])
        how = (self.deep_text, o.alpha, o.text_mode == "clean", self._recompute(self.backbone.text_width))
        return F.normalize(progressive.encode_states(self.backbone, contexts, states, *how), dim=-1)

    def _recompute(self, width: int) -> bool:
        return self.options.recompute == "always" or (self.options.recompute == "auto" and width >= _WIDE)

    # --- images -------------------------------------------------------------------------------------------
    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] → image features [B, D] and adapted patches [B, L, N, D], all of unit length."""
        backbone, recompute = self.backbone, self._recompute(self.backbone.vision_width)
        tokens, alpha = self.deep_visual, self.options.alpha
        cls, taps = progressive.encode_pixels(backbone, pixels, tokens, alpha, self.levels, recompute)
        patches = [adapter(tap) for adapter, tap in zip(self.adapters, taps, strict=True)]
        return F.normalize(cls.float(), dim=-1), F.normalize(torch.stack(patches, 1).float(), dim=-1)

    def predict(self, batch: Batch) -> Prediction:
        cls, patches = self.see(batch.inputs.need_pixels())
        return super().predict(replace(batch, inputs=replace(batch.inputs, cls=cls, patches=patches)))

    def compare(self, cls: Tensor, patches: Tensor, text: Tensor) -> DapoPrediction:
        """Patches against all classes; images against good and the merged defect (merged: mean of the defects)."""
        scale = 1 / self.options.temperature
        with torch.autocast(cls.device.type, enabled=False):
            merged = F.normalize(text[..., 1:, :].mean(-2), dim=-1)
            pair = torch.stack([text[..., 0, :], merged], -2)
            logits = (cls[:, None] @ pair.mT)[:, 0] * scale
            types = ((cls[:, None] @ text.mT)[:, 0] * scale).softmax(-1)
            local = patches @ (text.mT if text.ndim == 2 else text.mT[:, None])
            local = (local * scale).softmax(-1)
        return DapoPrediction(logits.softmax(-1), local, text, logits, types)

    # --- tuning -------------------------------------------------------------------------------------------
    def stages(self) -> list[TuningStage]:
        o = self.options
        local = dict.fromkeys(("type_focal", "good_dice", "defect_dice"), o.local_weight)
        return [
            TuningStage(
                name="prompts",
                trains=("context_", "deep_", "adapters."),
                epochs=o.epochs,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses=local | {"global_ce": o.global_weight},
                optimiser="adam",
                weight_decay=0.0,
                schedule="constant",
                supervision=o.supervision,
            )
        ]

    def before_stage(self, stage: TuningStage, data: "TuningData") -> "TuningData":
        present = {self.word_of(defect) for defect in data.defects if defect != GOOD}
        if not present:
            raise FlawlineError("methods.dapo: training images name no defects", "tell their defect types")
        if self.options.train_words == "present":
            self.trained.copy_(torch.tensor([word in present for word in self.vocabulary]))
        self.unfold()
        return data

    @torch.no_grad()
    def after_stage(self, stage: TuningStage, data: "TuningData") -> None:
        good = (data.labels == 0).nonzero()[:, 0].split(_CHUNK)
        seen = [self.see(data.rows(rows).inputs.need_pixels())[0] for rows in good]
        self.centre.copy_(torch.cat(seen).mean(0))

    def word_of(self, defect: str) -> str:
        """The word of a defect type.

        Raises:
            FlawlineError: it is not listed.
        """
        defect = defect.partition("@")[0]  # a noise may be named with its place: gaussian@scratch
        if defect not in self.listed:
            raise FlawlineError(f"methods.dapo.defects: no word for '{defect}'", f"add {defect}: <a word>")
        return self.listed[defect]

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The released losses, each term summed over the levels."""
        assert isinstance(prediction, DapoPrediction)
        device = prediction.patches.device
        masks = foreground(batch.masks.to(device), self.options.training_masks)
        words = [None, *self.train_words]
        classes = [words.index(None if name == GOOD else self.word_of(name)) for name in batch.defects]
        target = masks * torch.tensor(classes, device=device)[:, None, None]
        maps = [class_maps(level, masks.shape[-1]) for level in prediction.patches.unbind(1)]
        terms = [torch.stack(level_losses(level, target)) for level in maps]
        focal, good, defect = torch.stack(terms).sum(0)
        ce = F.cross_entropy(prediction.logits, batch.labels.to(device))
        return {"type_focal": focal, "good_dice": good, "defect_dice": defect, "global_ce": ce}

    # --- scoring ------------------------------------------------------------------------------------------
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        return self.score_and_types(inputs, [], size)[:2]

    def type_scores(self, inputs: Inputs, words: list[str], size: int) -> tuple[Tensor, Tensor]:
        if not words:
            raise FlawlineError("dapo was asked to tell no defect types", "name at least one")
        return self.score_and_types(inputs, words, size)[2:]

    @torch.no_grad()
    def score_and_types(self, inputs: Inputs, words: list[str], size: int) -> Judged:
        parts = []
        for cls, patches, nouns in self._seen(inputs):
            image, local = self.anomaly(
                self.compare(cls, patches, torch.stack(list(map(self.folded, nouns))))
            )
            found = self._maps(local[..., None], size)[:, 0]
            types = self._types(cls, patches, nouns, words, size) if words else (found[:0], found[:0])
            parts.append((fuse(image.cpu(), found, self.options.image_score), found, *types))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    def _types(self, cls: Tensor, patches: Tensor, nouns: list[str], words: list[str], size: int) -> Any:
        """Types of a few images: [B, 1 + K] and [B, 1 + K, size, size]."""
        text = torch.stack([self.folded_words(words, noun) for noun in nouns])
        prediction = self.compare(cls, patches, text)
        image = prediction.types
        if self.options.types == "relative":
            less_good = F.normalize(text[:, 1:] - text[:, :1], dim=-1)
            cosines = ((cls - self.centre)[:, None] @ less_good.mT)[:, 0]
            shares = (cosines / self.options.temperature).softmax(-1)
            image = torch.cat([prediction.image[:, :1], prediction.image[:, 1:] * shares], 1)
        return image.cpu(), self._maps(prediction.patches.mean(1), size)

    def _seen(self, inputs: Inputs) -> Any:
        """(cls, patches, nouns) of a few images at a time."""
        pixels = inputs.need_pixels()
        nouns = self.nouns_of(inputs)
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield *self.see(pixels[part]), nouns[part]

    def _maps(self, values: Tensor, size: int) -> Tensor:
        sigma = self.options.smoothing * size / self.backbone.image_size
        return class_maps(values.cpu(), size, sigma)

    # --- for the card -------------------------------------------------------------------------------------
    def learned_tokens(self) -> dict[str, Tensor]:
        kinds = {GOOD: self.context_good, "defect": self.context_defect}
        return {f"{kind} {k}": one.detach() for kind, many in kinds.items() for k, one in enumerate(many, 1)}

    def words(self) -> dict[str, Any]:
        count = self.options.context_tokens
        return {
            "good": f"[V]×{count} flawless {{noun}}",
            "defect": f"[W]×{count} {{defect}} anomaly {{noun}}",
            "trained": self.train_words,
            "scored": self.test_words,
        }


Method = Dapo
