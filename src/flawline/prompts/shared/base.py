"""What every prompt method is: which prompts, what trains in which stage, how a score is read.

Dimensions: B images, L levels of the image path, N patches, D joint, W width of the image tower, C classes
(0 = good, the rest defects; binary methods have C = 2), S pixels a side of the backbone's input.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.errors import FlawlineError
from flawline.prompts.shared.batches import Batch, Inputs, Judged, Prediction, rows_by

if TYPE_CHECKING:
    from flawline.tune.loop import TuningData

OBJECT = "object"
MAIN = "main"


class MethodOptions(BaseModel):
    """Options all methods share; a method's own options extend this. Strict: no unknown keys, no conversions.

    Attributes:
        image_path: how features are read from the image tower.
        noun: what a prompt calls the thing: its category's words, or just "object".
        temperature: of the softmax over good and defective; 1 / CLIP's logit scale.
        smoothing: sigma of the Gaussian over the anomaly map, in pixels of the backbone's input; 0: none.
    """

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
        final_rate: where the cosine schedule ends.
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
    final_rate: float = 0.0
    guidance: Literal["projection", "loss", "none"] = "none"
    guidance_weight: float = 1.0
    supervision: Literal["synthetic", "real", "both"] = "synthetic"


class PromptMethod(nn.Module, ABC):
    """A method owns its learned tokens and turns cached features into probabilities and scores.

    Its parameters are the prompt set: nothing else trains. The frozen backbone is kept out of the module tree, so
    that `state_dict()` holds the prompt set alone.
    """

    name: ClassVar[str]
    fidelity: ClassVar[Literal["paper", "released-code", "reconstruction", "baseline"]]
    score_formula: ClassVar[str]
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    #: the method runs the image tower itself and cannot use cached features
    reads_pixels: ClassVar[bool] = False
    #: what it reads of the features of its image path; what no method reads is not computed when scoring
    reads_cls: ClassVar[bool] = True
    reads_patches: ClassVar[bool] = True
    #: the method tells defect types apart: see `type_scores`
    knows_types: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, options: Any, seed: int) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.backbone: Backbone
        self.options = options
        self.seed = seed

    def more_paths(self) -> dict[str, str]:
        """Other image paths the method reads besides `options.image_path`: role → name in features.paths."""
        return {}

    def paths(self) -> dict[str, str]:
        """All image paths the method reads: role → name in features.paths; the role of the first is MAIN."""
        return {MAIN: self.options.image_path, **self.more_paths()}

    @property
    def needs_support(self) -> bool:
        """Whether the method scores against a few good images of the target's own category: see `remember`.

        Such a method has an option `shots`: good images a category.
        """
        return False

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the method's file."""
        import inspect

        module = inspect.getmodule(cls)
        return ((module.__doc__ if module else "") or "").split("\n")[0].replace("`", "")

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

    def before_stage(self, stage: TuningStage, data: "TuningData") -> "TuningData":
        """Called before each stage; may pick other rows (rounds with other anomalies) or reset a guide."""
        return data

    def after_stage(self, stage: TuningStage, data: "TuningData") -> None:
        """Called after each stage with the whole training set (self-optimising guides move here)."""

    def after_epoch(self, progress: float) -> None:
        """Called after each epoch with the finished share of the stage, 0..1 (a dynamic guide moves here)."""

    def learned_tokens(self) -> dict[str, Tensor]:
        """Learned tokens [k, W] by prompt name, to be shown as their nearest words."""
        return {}

    def words(self) -> dict[str, Any]:
        """The hand-written words that this method uses, for the card."""
        return {}

    def remember(self, good: Inputs) -> None:
        """Take a few good images as support (`needs_support`); categories are told by `good.categories`."""

    def type_words(self) -> list[str]:
        """The defect types in words that the prompts were trained with, or are set to ask for (`knows_types`)."""
        return []

    def type_scores(self, inputs: Inputs, words: list[str], size: int) -> tuple[Tensor, Tensor]:
        """Probabilities of good and of each defect (`knows_types`): images [B, 1 + K], maps [B, 1 + K, size, size].

        Args:
            inputs: the images.
            words: the K defects asked for, in words; also such that were not trained.
            size: pixels a side of the maps.
        """
        raise FlawlineError(
            f"{self.name} knows no defect types", "ask a method that does: `flawline methods`"
        )

    def score_and_types(self, inputs: Inputs, words: list[str], size: int) -> Judged:
        """`score`, then `type_scores`, of the same images (`knows_types`)."""
        return *self.score(inputs, size), *self.type_scores(inputs, words, size)

    # --- what all methods share ---------------------------------------------------------------------------
    def noun_of(self, words: str) -> str:
        """The noun put into prompts for images whose category reads `words` (empty when unknown)."""
        return words if self.options.noun == "category" and words else OBJECT

    def nouns_of(self, inputs: Inputs) -> list[str]:
        """The noun of each image."""
        return [self.noun_of(words) for words in inputs.nouns or [""] * len(inputs)]

    def predict(self, batch: Batch) -> Prediction:
        """Probabilities of a training batch; each image is compared with the prompts of its own noun."""
        nouns = self.nouns_of(batch.inputs)
        distinct = sorted(set(nouns))
        texts = [self.text_features(noun) for noun in distinct]
        if len(texts) == 1:
            return self.compare(batch.cls, batch.patches, texts[0])
        rows = torch.tensor([distinct.index(noun) for noun in nouns])
        return self.compare(batch.cls, batch.patches, torch.stack(texts)[rows])

    def compare(self, cls: Tensor, patches: Tensor, text: Tensor) -> Prediction:
        """softmax(cosine / temperature) of cls [B, D] and patches [B, L, N, D] with text [C, D] or [B, C, D]."""
        scale = 1.0 / self.options.temperature
        image = (cls[:, None] @ text.mT)[:, 0]
        local = patches @ (text.mT if text.ndim == 2 else text.mT[:, None])
        return Prediction((image * scale).softmax(-1), (local * scale).softmax(-1), text)

    def anomaly(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Probability of any defect: images [B], patches [B, N], the mean over the levels."""
        return 1 - prediction.image[..., 0], (1 - prediction.patches[..., 0]).mean(1)

    def image_score(self, image: Tensor, maps: Tensor) -> Tensor:
        """Image score [B] from the image's anomaly probability [B] and its finished map [B, h, w]."""
        return image

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size] in 0..1; images may have different nouns."""
        from flawline.prompts.shared.maps import finish_maps

        image = torch.empty(len(inputs))
        probability = torch.empty(len(inputs), inputs.patches.shape[2])
        for noun, rows in rows_by(self.nouns_of(inputs)).items():
            prediction = self.compare(inputs.cls[rows], inputs.patches[rows], self.folded(noun))
            bad, local = self.anomaly(prediction)
            image[rows], probability[rows] = bad.float(), local.float()
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
