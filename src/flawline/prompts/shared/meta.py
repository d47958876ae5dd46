"""What Human-Free and APT share: prompts that a meta-prompt guides (MPTS).

The meta-prompt is a teacher in the joint space, one a state. FACT: it starts from general anomaly semantics and guides
the direction of the gradient, so that prompts do not overfit synthetic noise. CHOICE: its sentences, one teacher a
noun, the guiding loss (KL of the teacher's probabilities to the prompts'), its softening, the memory of good patches
(`shots`): neither paper is known to have one; it makes both comparable with PromptAD and WinCLIP+.

Dimensions: B images, L levels, N patches, D joint, W text width, C = 2 states (good, defective).
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import embed
from flawline.prompts.shared.base import OBJECT, MethodOptions, PromptMethod
from flawline.prompts.shared.batches import Batch, Inputs, Prediction
from flawline.prompts.shared.fusion import FORMULAS, Fusion, fuse, harmonic
from flawline.prompts.shared.maps import finish_maps
from flawline.prompts.shared.memory import PatchMemory
from flawline.prompts.shared.sentences import GENERAL_ABNORMAL, GENERAL_NORMAL, GENERAL_TEMPLATES, prototypes
from flawline.tune.patch_labels import Partial, patch_ce

STATES = ("good", "defective")
INIT_DEVIATION = 0.02
Teachers = dict[str, Tensor]  # [2, D] by noun
_MEMORY = "memory"


class GuidedOptions(MethodOptions):
    """Options of prompts that a meta-prompt guides.

    Attributes:
        batch: images a step, half of them anomalous. learning_rate: of SGD with momentum.
        guidance: `projection` takes the part of the gradient out that raises the guiding loss (MPTS); `loss` adds
            that loss; `none` ignores it.
        guidance_weight: lambda of the projection, or the weight of the loss.
        guide_temperature: both sides of the KL are softened by this factor on `temperature`.
        local_loss: what teaches the map: focal and dice of the upsampled `map`, cross-entropy a patch (`patches`),
            or `both`.
        patch_positive: share of a patch that must be marked for it to count as anomalous.
        patch_partial: whether a patch that is marked less is left out (`ignore`) or `good`.
        image_fusion: how the image score is made: `mean`, `harmonic`, `image` or `map`.
        shots: good images a category whose patches are remembered when scoring: the map becomes the harmonic fusion of
            prompts and memory, the image score that of its score with the memory's highest value. 0: prompts alone.
        memory_path: image path of that memory; null: `image_path`.
    """

    batch: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    guidance: Literal["projection", "loss", "none"] = "projection"
    guidance_weight: Annotated[float, Field(ge=0)] = 1.0
    guide_temperature: Annotated[float, Field(gt=0)] = 4.0
    local_loss: Literal["map", "patches", "both"] = "map"
    patch_positive: Annotated[float, Field(ge=0, lt=1)] = 0.25
    patch_partial: Partial = "ignore"
    image_fusion: Fusion = "mean"
    shots: Annotated[int, Field(ge=0, le=1024)] = 0
    memory_path: str | None = None


class MetaGuided(PromptMethod):
    """A method whose two states are guided by a meta-prompt; subclasses own the learned contexts.

    The teachers are training state: they are no part of the prompt set.
    """

    options: GuidedOptions

    def __init__(self, backbone: Backbone, options: GuidedOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        self.teachers: Teachers = {}
        self.memory = PatchMemory()
        formula = FORMULAS[options.image_fusion]
        fused = f"1 / (1 / ({formula}) + 1 / max of memory map)"
        object.__setattr__(self, "score_formula", fused if options.shots else formula)

    @property
    def needs_support(self) -> bool:
        return self.options.shots > 0

    def more_paths(self) -> dict[str, str]:
        path = self.options.memory_path
        return {_MEMORY: path} if path and self.needs_support else {}

    def remember(self, good: Inputs) -> None:
        self.memory.fill(good.more.get(_MEMORY, good.patches), good.categories)

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size], fused with the category's memory where there is one.

        Raises:
            FlawlineError: `shots` is not 0 and nothing is remembered of a category.
        """
        image, maps = super().score(inputs, size)
        if not self.needs_support:
            return image, maps
        distance = self.memory.distance(inputs.more.get(_MEMORY, inputs.patches), inputs.categories).mean(1)
        visual = finish_maps(distance, size, self.options.smoothing * size / self.backbone.image_size)
        return harmonic(image, visual.flatten(1).amax(1)), harmonic(maps, visual)

    def teacher(self, noun: str) -> Tensor:
        """The meta-prompt's unit features [2, D] for a noun; general anomaly semantics until it moves."""
        if noun not in self.teachers:
            self.teachers[noun] = prototypes(
                self.backbone, GENERAL_NORMAL, GENERAL_ABNORMAL, noun, list(GENERAL_TEMPLATES)
            )
        return self.teachers[noun]

    @property
    def meta(self) -> Tensor:
        """The meta-prompt of `object`: [2, D]."""
        return self.teacher(OBJECT)

    def taught(self, batch: Batch, teachers: Teachers | None = None) -> Tensor:
        """The teacher of a batch: [2, D], or [B, 2, D] where its images have different nouns.

        Args:
            batch: the images.
            teachers: used in place of the method's own.
        """
        own = self.nouns_of(batch.inputs)
        features = {noun: teachers[noun] if teachers else self.teacher(noun) for noun in dict.fromkeys(own)}
        return features[own[0]] if len(features) == 1 else torch.stack([features[noun] for noun in own])

    @torch.no_grad()
    def moved(self, momentum: float) -> Teachers:
        """Every known teacher moved towards the learned prompts: normalise(mu·m + (1 - mu)·t)."""
        return {
            noun: F.normalize(momentum * taught + (1 - momentum) * self.text_features(noun), dim=-1)
            for noun, taught in self.teachers.items()
        }

    def task_losses(self) -> dict[str, float]:
        """Weights of the losses on synthetic anomalies, as a stage names them."""
        local = {"map": ("focal", "dice"), "patches": ("patch_ce",), "both": ("focal", "dice", "patch_ce")}
        return dict.fromkeys(("image_ce", *local[self.options.local_loss]), 1.0)

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        o = self.options
        if o.local_loss == "map":
            return {}
        return {"patch_ce": patch_ce(prediction.patches, batch.masks, o.patch_positive, o.patch_partial)}

    def guide_loss(self, batch: Batch, prediction: Prediction) -> Tensor:
        """KL(meta-prompt ‖ prompts) of patches and images, both softened (Human-Free, section 6)."""
        softness = self.options.temperature * self.options.guide_temperature
        return alignment(batch, prediction.text, self.taught(batch), softness)

    def image_score(self, image: Tensor, maps: Tensor) -> Tensor:
        return fuse(image, maps, self.options.image_fusion)


def alignment(batch: Batch, learned: Tensor, taught: Tensor, softness: float) -> Tensor:
    """Mean KL(teacher ‖ prompts) over the images plus the same over all patches of all levels.

    Args:
        batch: cls [B, D] and patches [B, L, N, D].
        learned: text features [C, D] or [B, C, D] of the prompts; the gradient flows here.
        taught: the same of the teacher.
        softness: temperature of both.
    """
    total = torch.zeros((), device=batch.cls.device)
    for features in (batch.cls[:, None], batch.patches.flatten(1, 2)):
        wanted = (features @ taught.mT / softness).log_softmax(-1).flatten(0, 1)
        had = (features @ learned.mT / softness).log_softmax(-1).flatten(0, 1)
        total = total + F.kl_div(had, wanted, reduction="batchmean", log_target=True)
    return total


def semantic_distance(learned: Tensor, taught: Tensor) -> Tensor:
    """Sum over the states of 1 - cosine, of unit text features [C, D] or [B, C, D] (mean over B)."""
    return (1 - (learned * taught).sum(-1)).sum(-1).mean()


def started(
    backbone: Backbone, count: int, phrases: list[str], generator: torch.Generator, words: bool = True
) -> Tensor:
    """Where contexts start: [len(phrases), count, W], each at its phrase's words, small noise over all.

    Args:
        backbone: gives the words' embeddings.
        count: tokens of a context; a longer phrase is cut.
        phrases: one a context.
        generator: the source of chance.
        words: without them there is only the noise.
    """
    start = torch.randn((len(phrases), count, backbone.text_width), generator=generator) * INIT_DEVIATION
    for context, phrase in zip(start, phrases, strict=True):
        if words:
            ids = backbone.tokenize([phrase])[0]
            embedded = embed(backbone, ids[1 : int(ids.argmax())])[:count]
            context[: len(embedded)] += embedded.to(context.device)
    return start
