"""A prompt set at work: pictures in, scores and anomaly maps out. What serving, the CLI and evaluation share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from flawline.features.store import FeatureSet
    from flawline.prompts.base import PromptMethod
    from flawline.settings import ImagePath, Settings
    from flawline.workspace import Workspace

_BATCH = 16


@dataclass(frozen=True)
class Result:
    """What a prompt set says of one image.

    Attributes:
        score: image-level anomaly score in 0..1.
        threshold: the prompt set's own; is_anomalous is score > threshold.
        defect: `good`, or the defect's name; `anomaly` for methods that know no types.
        map: anomaly map float32 [S, S] in 0..1, S the backbone's input size, over the squashed image.
    """

    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    map: "np.ndarray"


class Detector:
    """A loaded prompt set. Open it once: the text features are folded, an image costs one CLIP pass."""

    def __init__(self, method: "PromptMethod", path: "ImagePath", card: dict[str, Any]) -> None:
        self.method = method
        self.path = path
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
        method, path = load_prompt_set(Path(folder), root)
        return cls(method, path, read_card(Path(folder)))

    def score(self, images: "list[Image.Image]", noun: str = "") -> list[Result]:
        """Score pictures of any size and mode.

        Args:
            images: pictures.
            noun: words for what they show, used only by prompts that name the object.
        """
        import torch

        from flawline.clip.image_path import encode_image

        backbone = self.method.backbone
        results: list[Result] = []
        for start in range(0, len(images), _BATCH):
            pictures = torch.stack([backbone.preprocess(image) for image in images[start : start + _BATCH]])
            features, patches = encode_image(backbone, pictures, {"path": self.path})
            nouns = [noun] * len(pictures)
            scores, maps = self.method.score(features, patches["path"], nouns, backbone.image_size)
            for value, one in zip(scores.tolist(), maps.numpy(), strict=True):
                bad = value > self.threshold
                results.append(Result(value, self.threshold, bad, "anomaly" if bad else "good", one))
        return results


def _stored_as(features: "FeatureSet", path: "ImagePath") -> str:
    """The name under which a feature folder holds an image path, whatever it was called when tuning."""
    from flawline.errors import FlawlineError

    for name, stored in sorted(features.card["paths"].items()):
        if stored == path.model_dump():
            return name
    raise FlawlineError(
        f"{features.folder} holds no patch features read as {path.model_dump()}",
        "add that path to features.paths and run the features stage again",
    )


def score_features(
    workspace: "Workspace", settings: "Settings", prompts_folder: Path, features_folder: Path
) -> "tuple[np.ndarray, np.ndarray]":
    """Score cached features with a prompt set: image scores [n] and maps float32 [n, h, h].

    h is settings.evaluate.map_size, or the backbone's input size.

    Raises:
        FlawlineError: the features come from another backbone or lack the prompt set's image path.
    """
    import torch

    from flawline.data.vocabulary import load_vocabulary
    from flawline.determinism import make_torch_deterministic
    from flawline.features.store import FeatureSet
    from flawline.prompts.prompt_set import load_prompt_set

    make_torch_deterministic(0)
    method, path = load_prompt_set(Path(prompts_folder), workspace.root)
    features = FeatureSet.open(Path(features_folder))
    features.require(method.backbone)
    name = _stored_as(features, path)
    vocabulary = load_vocabulary(workspace.vocabulary)
    index = features.index
    nouns = [vocabulary.object_words(features.folder.name, category) for category in index.category]
    size = settings.evaluate.map_size or method.backbone.image_size
    stored = features.patches(name)
    scores, maps = [], []
    for start in range(0, len(index), 64):
        rows = slice(start, start + 64)
        cls = torch.from_numpy(features.cls[rows].astype("float32"))
        patches = torch.from_numpy(stored[rows].astype("float32"))
        image, found = method.score(cls, patches, nouns[rows], size)
        scores.append(image)
        maps.append(found)
    return torch.cat(scores).numpy().astype("float64"), torch.cat(maps).numpy()
