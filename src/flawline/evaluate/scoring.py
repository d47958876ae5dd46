"""A prompt set on cached features: scores and anomaly maps of the images asked for, never of all at once."""

from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from flawline.data.vocabulary import Vocabulary
    from flawline.features.store import FeatureSet
    from flawline.prompts.shared.base import PromptMethod
    from flawline.prompts.shared.batches import Inputs
    from flawline.settings import ImagePath, Settings
    from flawline.workspace import Workspace

_ROWS = 64
# Numbers a batch may hold in features and maps: 64 images of the embedded backbone, 7 of ViT-L/14 at 518 pixels.
_NUMBERS = 1 << 25


@dataclass(frozen=True)
class Scored:
    """Scores of n images.

    Attributes:
        image: image scores float64 [n]. maps: float32 [n, h, h].
        types: probabilities float64 [n, 1 + K] of good and of K defect types; None for methods that know none.
    """

    image: np.ndarray
    maps: np.ndarray
    types: np.ndarray | None = None


class Scorer(Protocol):
    """Whatever scores images by their row: `batch` of them at a time, with maps of `side` pixels a side."""

    side: int
    batch: int

    def __call__(self, rows: np.ndarray) -> Scored: ...


class HeldScores:
    """A scorer of scores that are there already."""

    def __init__(self, image: np.ndarray, maps: np.ndarray, types: np.ndarray | None = None) -> None:
        """image [n], maps [n, h, h], types [n, 1 + K] or None."""
        self.image = np.asarray(image, dtype=np.float64)
        self.maps = np.asarray(maps, dtype=np.float32)
        self.types = types
        self.side, self.batch = self.maps.shape[-1], _ROWS

    def __call__(self, rows: np.ndarray) -> Scored:
        return Scored(self.image[rows], self.maps[rows], None if self.types is None else self.types[rows])


class FeatureScorer:
    """A loaded prompt set on the feature folder of one test set."""

    def __init__(
        self,
        workspace: "Workspace",
        settings: "Settings",
        prompts_folder: Path,
        features_folder: Path,
        defects: list[str] | None = None,
    ) -> None:
        """Load it; a few-shot method looks at its good images now.

        Args:
            workspace, settings: where weights lie, and `evaluate.map_size`.
            prompts_folder: the prompt set.
            features_folder: of a test set.
            defects: types in words that a method that knows types shall tell apart.

        Raises:
            FlawlineError: the features come from another backbone or lack the prompt set's image path, or a few-shot
                method finds too few good images.
        """
        from flawline.data.vocabulary import load_vocabulary
        from flawline.determinism import make_torch_deterministic
        from flawline.features.store import FeatureSet
        from flawline.features.support import draw_support
        from flawline.prompts.shared.prompt_set import load_prompt_set

        make_torch_deterministic(0)
        self.method, paths = load_prompt_set(Path(prompts_folder), workspace.root)
        features = FeatureSet.open(Path(features_folder))
        features.require(self.method.backbone)
        vocabulary = load_vocabulary(workspace.vocabulary)
        self._read = InputsReader(self.method, paths, features, workspace, settings, vocabulary)
        if self.method.needs_support:
            support = FeatureSet.open(
                workspace.features("support", features.folder.name), self.method.backbone
            )
            rows = draw_support(support, self.method.options.shots, self.method.seed).numpy()
            self.method.remember(
                InputsReader(self.method, paths, support, workspace, settings, vocabulary)(rows)
            )
        self.defects = list(defects or []) if self.method.knows_types else []
        self.images = len(features)
        self.side = settings.evaluate.map_size or self.method.backbone.image_size
        channels = 2 + len(self.defects) if self.defects else 1
        self.batch = max(1, min(_ROWS, _NUMBERS // (channels * self.side**2 + self._read.numbers)))

    def __call__(self, rows: np.ndarray) -> Scored:
        """Scores of the images at `rows` of the feature folder."""
        inputs = self._read(rows)
        if not self.defects:
            image, maps = self.method.score(inputs, self.side)
            return Scored(image.numpy().astype("float64"), maps.numpy())
        image, maps, types, _ = self.method.score_and_types(inputs, self.defects, self.side)
        return Scored(image.numpy().astype("float64"), maps.numpy(), types.numpy().astype("float64"))


def score_features(
    workspace: "Workspace",
    settings: "Settings",
    prompts_folder: Path,
    features_folder: Path,
    defects: list[str] | None = None,
) -> Scored:
    """All images of a feature folder at once, for small sets; arguments as `FeatureScorer`."""
    score = FeatureScorer(workspace, settings, prompts_folder, features_folder, defects)
    starts = range(0, score.images, score.batch)
    parts = [score(np.arange(at, min(at + score.batch, score.images))) for at in starts]
    return Scored(
        np.concatenate([part.image for part in parts]),
        np.concatenate([part.maps for part in parts]),
        np.concatenate([part.types for part in parts if part.types is not None]) if score.defects else None,
    )


class InputsReader:
    """What a method sees of rows of a feature folder, in float32; `numbers` of it an image."""

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
        from flawline.prompts.shared.base import MAIN

        names = {role: _stored_as(features, path) for role, path in sorted(paths.items())}
        index = features.index
        self.cls = features.cls(names[MAIN])
        self.patches = {role: features.patches(name) for role, name in names.items()}
        self.numbers = sum(int(np.prod(held.shape[1:])) for held in self.patches.values())
        self.categories = list(index.category)
        dataset = features.folder.name
        self.nouns = [vocabulary.object_words(dataset, category) for category in self.categories]
        self.pixels = None
        if method.reads_pixels:
            files = files_of(features, workspace)
            self.pixels = PixelReader(files, method.backbone, settings.data.max_pixels, keep=0)

    def __call__(self, rows: np.ndarray) -> "Inputs":
        import torch

        from flawline.prompts.shared.base import MAIN
        from flawline.prompts.shared.batches import Inputs

        patches = {role: torch.from_numpy(read_rows(held, rows)) for role, held in self.patches.items()}
        return Inputs(
            cls=torch.from_numpy(read_rows(self.cls, rows)),
            patches=patches.pop(MAIN),
            nouns=[self.nouns[row] for row in rows],
            more=patches,
            pixels=self.pixels(torch.from_numpy(np.asarray(rows))) if self.pixels else None,
            categories=[self.categories[row] for row in rows],
        )


def read_rows(held: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array as float32; of a memory-mapped one by reading the file.

    Pages of a mapping stay counted as this process's memory until the system wants them back: a sweep over a large
    feature folder would look, and be limited, as if all of it were loaded.
    """
    # A slice still names the offset of the whole: only what `np.load` gave is read from the file.
    loaded = isinstance(held, np.memmap) and isinstance(held.base, mmap) and held.flags.c_contiguous
    if not isinstance(held, np.memmap) or not loaded or held.filename is None:
        return np.ascontiguousarray(held[rows], dtype=np.float32)
    result = np.empty((len(rows), *held.shape[1:]), dtype=np.float32)
    count = int(np.prod(held.shape[1:]))
    with Path(held.filename).open("rb") as stream:
        for place, row in enumerate(np.asarray(rows).tolist()):
            stream.seek(held.offset + row * count * held.dtype.itemsize)
            result[place] = np.fromfile(stream, dtype=held.dtype, count=count).reshape(held.shape[1:])
    return result


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
