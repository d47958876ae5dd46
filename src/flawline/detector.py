"""A prompt set at work: pictures in, scores and anomaly maps out. What serving, the CLI and evaluation share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from flawline.data.vocabulary import Vocabulary
    from flawline.features.store import FeatureSet
    from flawline.prompts.base import Inputs, PromptMethod
    from flawline.settings import ImagePath, Settings
    from flawline.workspace import Workspace

GOOD, UNKNOWN = "good", "unknown"
# A type is named when it is this much more probable than if all asked types were equally so.
STANDS_OUT = 1.25
_BATCH = 16
_ROWS = 64


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


@dataclass(frozen=True)
class ScoredFeatures:
    """Scores of n images.

    Attributes:
        image: image scores float64 [n]. maps: float32 [n, h, h], h settings.evaluate.map_size or the input size.
        types: probabilities [n, 1 + K] of good and the K asked types; None for methods that know none.
    """

    image: "np.ndarray"
    maps: "np.ndarray"
    types: "np.ndarray | None"


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
    workspace: "Workspace",
    settings: "Settings",
    prompts_folder: Path,
    features_folder: Path,
    defects: list[str] | None = None,
) -> ScoredFeatures:
    """Score cached features with a prompt set.

    Args:
        workspace, settings: where weights lie, and `evaluate.map_size`.
        prompts_folder: the prompt set.
        features_folder: of a test set.
        defects: types in words that a method that knows types shall tell apart.

    Raises:
        FlawlineError: the features come from another backbone or lack the prompt set's image path, or a few-shot
            method finds too few good images.
    """
    import torch

    from flawline.data.vocabulary import load_vocabulary
    from flawline.determinism import make_torch_deterministic
    from flawline.features.store import FeatureSet
    from flawline.features.support import draw_support
    from flawline.prompts.prompt_set import load_prompt_set

    make_torch_deterministic(0)
    method, paths = load_prompt_set(Path(prompts_folder), workspace.root)
    features = FeatureSet.open(Path(features_folder))
    features.require(method.backbone)
    vocabulary = load_vocabulary(workspace.vocabulary)
    reader = _InputsReader(method, paths, features, workspace, settings, vocabulary)
    if method.needs_support:
        support = FeatureSet.open(workspace.features("support", features.folder.name), method.backbone)
        rows = draw_support(support, method.options.shots, method.seed)
        method.remember(_InputsReader(method, paths, support, workspace, settings, vocabulary)(rows))
    size = settings.evaluate.map_size or method.backbone.image_size
    scores, maps, types = [], [], []
    for rows in torch.arange(len(features)).split(_ROWS):
        inputs = reader(rows)
        if method.knows_types and defects:
            image, found, named, _ = method.score_and_types(inputs, defects, size)
            types.append(named)
        else:
            image, found = method.score(inputs, size)
        scores.append(image)
        maps.append(found)
    return ScoredFeatures(
        torch.cat(scores).numpy().astype("float64"),
        torch.cat(maps).numpy(),
        torch.cat(types).numpy().astype("float64") if types else None,
    )


class _InputsReader:
    """What a method sees of rows of a feature folder, in float32."""

    def __init__(
        self,
        method: "PromptMethod",
        paths: "dict[str, ImagePath]",
        features: "FeatureSet",
        workspace: "Workspace",
        settings: "Settings",
        vocabulary: "Vocabulary",
    ) -> None:
        from flawline.features.pixels import PixelReader, files_of
        from flawline.prompts.base import MAIN

        names = {role: _stored_as(features, path) for role, path in sorted(paths.items())}
        index = features.index
        self.cls = features.cls(names[MAIN])
        self.patches = {role: features.patches(name) for role, name in names.items()}
        self.categories = list(index.category)
        dataset = features.folder.name
        self.nouns = [vocabulary.object_words(dataset, category) for category in self.categories]
        self.pixels = None
        if method.reads_pixels:
            files = files_of(features, workspace)
            self.pixels = PixelReader(files, method.backbone, settings.data.max_pixels, keep=0)

    def __call__(self, rows: "Tensor") -> "Inputs":
        import torch

        from flawline.prompts.base import MAIN, Inputs

        at = rows.tolist()
        patches = {role: torch.from_numpy(v[at].astype("float32")) for role, v in self.patches.items()}
        return Inputs(
            cls=torch.from_numpy(self.cls[at].astype("float32")),
            patches=patches.pop(MAIN),
            nouns=[self.nouns[k] for k in at],
            more=patches,
            pixels=self.pixels(rows) if self.pixels else None,
            categories=[self.categories[k] for k in at],
        )
