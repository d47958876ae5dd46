"""A prompt set at work: pictures in, scores and anomaly maps out. What serving and the CLI share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from flawline.prompts.base import PromptMethod
    from flawline.settings import ImagePath

GOOD, UNKNOWN = "good", "unknown"
# A type is named when it is this much more probable than if all asked types were equally so.
STANDS_OUT = 1.25
_BATCH = 16


@dataclass(frozen=True)
class Result:
    """What a prompt set says of one image.

    Attributes:
        score: image-level anomaly score in 0..1.
        threshold: the prompt set's own; is_anomalous is score > threshold.
        defect: `good`, or the defect's words; `unknown` where no asked type stands out; `anomaly` for methods that
            know no types.
        map: anomaly map float32 [S, S] in 0..1, S the backbone's input size, over the squashed image.
        types: probability of good and of each asked type; empty for methods that know no types.
        type_map: the most probable of them at each pixel, int16 [S, S] counting in the order of `types`; or None.
    """

    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    map: "np.ndarray"
    types: dict[str, float] = field(default_factory=dict)
    type_map: "np.ndarray | None" = None


class Detector:
    """A loaded prompt set. Open it once: the text features are folded, an image costs one CLIP pass."""

    def __init__(self, method: "PromptMethod", paths: "dict[str, ImagePath]", card: dict[str, Any]) -> None:
        self.method = method
        self.paths = paths
        self.card = card
        self.threshold = float(card["threshold"]["value"])

    @classmethod
    def open(cls, folder: Path, workspace_root: Path | None = None) -> "Detector":
        """Load a prompt set folder; weight files are looked up below `workspace_root`.

        Raises:
            FlawlineError: a broken prompt set or missing or different backbone weights.
        """
        from flawline.prompts.prompt_set import load_prompt_set, read_card
        from flawline.workspace import Workspace

        root = workspace_root or Workspace.find().root
        method, paths = load_prompt_set(Path(folder), root)
        return cls(method, paths, read_card(Path(folder)))

    @property
    def known_types(self) -> list[str]:
        """The defect types, in words, that the prompt set was trained with or set to; empty if it knows none."""
        return list(self.method.type_words()) if self.method.knows_types else []

    def score(
        self,
        images: "list[Image.Image]",
        noun: str = "",
        category: str = "",
        defects: list[str] | None = None,
    ) -> list[Result]:
        """Score pictures of any size and mode.

        Args:
            images: pictures.
            noun: words for what they show, used only by prompts that name the object.
            category: which remembered good images to compare with, used only by few-shot methods.
            defects: defect types in words to tell apart, also such that were never trained; None: `known_types`.
                Used only by methods that know types.

        Raises:
            FlawlineError: a few-shot method remembers no good images of that category.
        """
        import torch

        from flawline.clip.image_path import encode_image
        from flawline.prompts.base import MAIN, Inputs

        backbone = self.method.backbone
        asked = self.known_types if defects is None else list(dict.fromkeys(defects))
        results: list[Result] = []
        for start in range(0, len(images), _BATCH):
            pictures = torch.stack([backbone.preprocess(image) for image in images[start : start + _BATCH]])
            read = encode_image(backbone, pictures, self.paths)
            inputs = Inputs(
                cls=read[MAIN].cls,
                patches=read[MAIN].patches,
                nouns=[noun] * len(pictures),
                categories=[category] * len(pictures),
                more={role: encoded.patches for role, encoded in read.items() if role != MAIN},
                pixels=pictures if self.method.reads_pixels else None,
            )
            told: list[tuple[dict[str, float], np.ndarray | None]] = [({}, None)] * len(pictures)
            if self.method.knows_types and asked:
                scores, maps, *types_and_maps = self.method.score_and_types(
                    inputs, asked, backbone.image_size
                )
                told = _told(asked, *types_and_maps)
            else:
                scores, maps = self.method.score(inputs, backbone.image_size)
            for value, one, (types, type_map) in zip(scores.tolist(), maps.numpy(), told, strict=True):
                bad = value > self.threshold
                defect = (type_name(types) if types else "anomaly") if bad else GOOD
                results.append(Result(value, self.threshold, bad, defect, one, types, type_map))
        return results


def type_name(types: dict[str, float]) -> str:
    """The most probable defect type, or `unknown`: it must be `STANDS_OUT` times as probable as among equals."""
    defects = {name: value for name, value in types.items() if name != GOOD}
    total = sum(defects.values())
    best = max(defects, key=lambda name: defects[name])
    clear = len(defects) == 1 or defects[best] * len(defects) >= STANDS_OUT * total
    return best if clear else UNKNOWN


def _told(
    words: list[str], probabilities: "Tensor", maps: "Tensor"
) -> "list[tuple[dict[str, float], np.ndarray | None]]":
    import numpy as np

    places = maps.argmax(1).numpy().astype(np.int16)
    return [
        (dict(zip([GOOD, *words], values, strict=True)), place)
        for values, place in zip(probabilities.tolist(), places, strict=True)
    ]
