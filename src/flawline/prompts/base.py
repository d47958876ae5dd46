"""What every prompt method is: which prompts, what trains in which stage, how a score is read.

Dimensions: B images, N patches, D joint, C classes (0 = good, the rest defects; binary methods have C = 2).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone

OBJECT = "object"


class MethodOptions(BaseModel):
    """Options all methods share; a method's own options extend this. Strict: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image_path: str
    noun: Literal["category", "object"] = "object"
    temperature: Annotated[float, Field(gt=0)] = 0.01
    smoothing: Annotated[float, Field(ge=0)] = 4.0


@dataclass(frozen=True)
class TuningStage:
    """One stage of staged tuning, as data: it stands in params.yaml and on the protocol card.

    Attributes:
        trains: prefixes of the parameter names that train; the others are frozen.
        losses: weight of each named loss; names are those of flawline.tune.losses or of the method's own losses.
        guidance: what the guiding loss does: `projection` takes the conflicting part out of the gradient (MPTS),
            `loss` adds it to the loss, `none` ignores it.
        supervision: where the anomalies of a batch come from.
    """

    name: str
    trains: tuple[str, ...]
    epochs: int
    batch: int
    learning_rate: float
    losses: dict[str, float]
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    guidance: Literal["projection", "loss", "none"] = "none"
    guidance_weight: float = 1.0
    supervision: Literal["synthetic", "real", "both"] = "synthetic"


@dataclass(frozen=True)
class Batch:
    """Cached features of some images: cls [B, D], patches [B, N, D], labels int64 [B], masks bool [B, S, S]."""

    cls: Tensor
    patches: Tensor
    labels: Tensor
    masks: Tensor
    nouns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of images [B, C] and patches [B, N, C], and the unit text features they were compared
    with: [C, D], or [B, C, D] where the images of a batch have different nouns."""

    image: Tensor
    patches: Tensor
    text: Tensor


class PromptMethod(nn.Module, ABC):
    """A method owns its learned tokens and turns cached features into probabilities and scores.

    Its parameters are the prompt set: nothing else trains. The frozen backbone is kept out of the module tree, so
    that `state_dict()` holds the prompt set alone.
    """

    name: ClassVar[str]
    fidelity: ClassVar[Literal["paper", "released-code", "reconstruction", "baseline"]]
    score_formula: ClassVar[str]
    Options: ClassVar[type[MethodOptions]] = MethodOptions

    def __init__(self, backbone: Backbone, options: Any, seed: int) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.backbone: Backbone
        self.options = options
        self.seed = seed

    # --- what a method says -------------------------------------------------------------------------------
    @abstractmethod
    def text_features(self, noun: str) -> Tensor:
        """Unit text features [C, D] for images of `noun`, class 0 = good."""

    def stages(self) -> list[TuningStage]:
        """The stages of tuning, in order; none for a method that is not trained."""
        return []

    def own_losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Losses only this method has, by name."""
        return {}

    def guide_loss(self, batch: Batch, prediction: Prediction) -> Tensor | None:
        """The guiding loss of the batch, where the method has a guide."""
        return None

    def after_epoch(self, progress: float) -> None:
        """Called after each epoch with the finished share of the stage, 0..1 (a dynamic guide moves here)."""

    def learned_tokens(self) -> dict[str, Tensor]:
        """Learned tokens [k, W] by prompt name, to be shown as their nearest words."""
        return {}

    def words(self) -> dict[str, Any]:
        """The hand-written words that this method uses, for the card."""
        return {}

    # --- what all methods share ---------------------------------------------------------------------------
    def noun_of(self, words: str) -> str:
        """The noun put into prompts for images whose category reads `words` (empty when unknown)."""
        return words if self.options.noun == "category" and words else OBJECT

    def predict(self, batch: Batch) -> Prediction:
        """Probabilities of a training batch; each image is compared with the prompts of its own noun."""
        nouns = [self.noun_of(words) for words in batch.nouns]
        distinct = sorted(set(nouns)) or [OBJECT]
        texts = [self.text_features(noun) for noun in distinct]
        if len(texts) == 1:
            return self.compare(batch.cls, batch.patches, texts[0])
        rows = torch.tensor([distinct.index(noun) for noun in nouns])
        return self.compare(batch.cls, batch.patches, torch.stack(texts)[rows])

    def compare(self, cls: Tensor, patches: Tensor, text: Tensor) -> Prediction:
        """softmax(cosine / temperature) of cls [B, D] and patches [B, N, D] with text [C, D] or [B, C, D]."""
        scale = 1.0 / self.options.temperature
        image = (cls[:, None] @ text.mT)[:, 0]
        return Prediction((image * scale).softmax(-1), (patches @ text.mT * scale).softmax(-1), text)

    def anomaly(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Probability of any defect: images [B], patches [B, N]."""
        return 1 - prediction.image[..., 0], 1 - prediction.patches[..., 0]

    def image_score(self, image: Tensor, maps: Tensor) -> Tensor:
        """Image score [B] from the image's anomaly probability [B] and its finished map [B, h, w]."""
        return image

    @torch.no_grad()
    def score(self, cls: Tensor, patches: Tensor, nouns: list[str], size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size] in 0..1; images may have different nouns."""
        from flawline.prompts.maps import finish_maps

        image = torch.empty(len(cls))
        probability = torch.empty(patches.shape[:2])
        wanted = [self.noun_of(words) for words in nouns]
        for noun in sorted(set(wanted)):
            rows = torch.tensor([k for k, other in enumerate(wanted) if other == noun])
            prediction = self.compare(cls[rows], patches[rows], self.folded(noun))
            image[rows], probability[rows] = self.anomaly(prediction)
        maps = finish_maps(probability, size, self.options.smoothing * size / self.backbone.image_size)
        return self.image_score(image, maps), maps

    @torch.no_grad()
    def folded(self, noun: str) -> Tensor:
        """`text_features(noun)`, encoded once; call `unfold()` after a parameter changed."""
        cache: dict[str, Tensor] = self.__dict__.setdefault("_folded", {})
        if noun not in cache:
            cache[noun] = self.text_features(noun)
        return cache[noun]

    def unfold(self) -> None:
        """Forget folded text features."""
        self.__dict__.pop("_folded", None)
