"""A prompt set at work: pictures in, scores and anomaly maps out. What serving and the CLI share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from flawline.prompts.shared.base import PromptMethod
    from flawline.serve.encoder import Encoder
    from flawline.serve.tiles import Tiling
    from flawline.settings import ImagePath

GOOD, UNKNOWN = "good", "unknown"
TRAINED, WORDS_ONLY = "trained", "words only"
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
        map: anomaly map float32 [S, S] in 0..1, S the backbone's input size, over the squashed image; with tiles
            [M, M], finer: see flawline.serve.tiles.
        types: probability of good and of each asked type; empty for methods that know no types.
        type_map: the most probable of them at each pixel, int16, as large as the map, counting in the order of
            `types`; or None.
        named_by: of each asked type `trained`, or `words only`: no training has seen it, its word alone names it.
    """

    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    map: "np.ndarray"
    types: dict[str, float] = field(default_factory=dict)
    type_map: "np.ndarray | None" = None
    named_by: dict[str, str] = field(default_factory=dict)


class Detector:
    """A loaded prompt set. Open it once: the text features are folded, an image costs one CLIP pass.

    Attributes:
        batch: images in one pass. Another number may change the last bits of scores.
    """

    def __init__(
        self,
        method: "PromptMethod",
        paths: "dict[str, ImagePath]",
        card: dict[str, Any],
        root: Path | None = None,
    ) -> None:
        """`root`: the workspace, for `speed_up`."""
        self.method = method
        self.paths = paths
        self.card = card
        self.root = root
        self.threshold = float(card["threshold"]["value"])
        self.batch = _BATCH
        self._expected = 0
        self._encoder: Encoder | None = None

    @classmethod
    def open(cls, folder: Path, workspace_root: Path | None = None, fast: bool = False) -> "Detector":
        """Load a prompt set folder; weight files are looked up below `workspace_root`.

        Args:
            folder: the prompt set.
            workspace_root: default: the workspace of the working directory.
            fast: as `speed_up()`.

        Raises:
            FlawlineError: a broken prompt set or missing or different backbone weights.
        """
        from flawline.prompts.shared.prompt_set import load_prompt_set, read_card
        from flawline.workspace import Workspace

        root = workspace_root or Workspace.find().root
        method, paths = load_prompt_set(Path(folder), root)
        detector = cls(method, paths, read_card(Path(folder)), root)
        if fast:
            detector.speed_up()
        return detector

    def speed_up(self, expected: int = 1000) -> None:
        """Score in the precision, and compiled where that pays, that a short measurement finds fastest here.

        The next `score` measures, unless .flawline/speed.json below the workspace knows the answer. Scores then agree
        with the plain ones within `flawline.serve.speed.TOLERANCE`, no longer to the last bit. Methods that run the
        image tower themselves stay as they are.

        Args:
            expected: images that will be scored: compiling takes long and pays for many alone.
        """
        self._expected = max(1, expected)
        self._encoder = None

    def use(self, encoder: "Encoder") -> None:
        """Run the image tower by this encoder from now on."""
        self._encoder = encoder

    @property
    def known_types(self) -> list[str]:
        """The defect types, in words, that the prompt set was trained with or set to; empty if it knows none."""
        return list(self.method.type_words()) if self.method.knows_types else []

    def named_by(self, defects: Iterable[str]) -> dict[str, str]:
        """For each type in words: was it `trained`, or is it named by `words only`? Empty for methods without types."""
        if not self.method.knows_types:
            return {}
        words = self.method.words()
        trained = set(words.get("trained", []))
        return {word: TRAINED if word in trained else WORDS_ONLY for word in defects}

    def score(
        self,
        images: "Iterable[Image.Image]",
        noun: str = "",
        category: str = "",
        defects: list[str] | None = None,
        tiles: int = 1,
        more: Iterable[str] = (),
    ) -> list[Result]:
        """Score pictures of any size and mode.

        Args:
            images: pictures; an iterator is read as far as a batch ahead, in a thread.
            noun: words for what they show, used only by prompts that name the object.
            category: which remembered good images to compare with, used only by few-shot methods.
            defects: defect types in words to tell apart, also such that were never trained; None: `known_types`.
                Used only by methods that know types.
            more: further types in words, asked beside `defects`: such as came up after the training.
            tiles: N, to also look at N x N overlapping tiles of each picture (1 + N² passes instead of one), for
                defects that vanish when a large picture is squashed. The score is the largest of the whole's and the
                tiles', types are told by the view it comes from; the map is the mean of the whole's and of the
                blended tiles' (`flawline.serve.tiles`). The threshold was set for whole pictures: the largest of many
                scores passes it more often.

        Raises:
            FlawlineError: a few-shot method remembers no good images of that category; impossible `tiles`.
        """
        return list(self.stream(images, noun, category, defects, tiles, more))

    def stream(
        self,
        images: "Iterable[Image.Image]",
        noun: str = "",
        category: str = "",
        defects: list[str] | None = None,
        tiles: int = 1,
        more: Iterable[str] = (),
    ) -> Iterator[Result]:
        """`score`, one result at a time: memory does not grow with the number of images."""
        import torch

        from flawline.serve.ahead import ahead, in_batches
        from flawline.serve.tiles import Tiling

        backbone = self.method.backbone
        tiling = Tiling(tiles, backbone.image_size)
        asked = list(dict.fromkeys([*(self.known_types if defects is None else defects), *more]))
        ask = _Question(noun, category, asked if self.method.knows_types else [])
        encoder = self._encoder_for(ask)

        def prepare(views: "list[Image.Image]") -> "Tensor":
            return torch.stack([backbone.preprocess(view) for view in views])

        views = (view for image in images for view in tiling.split(image))
        waiting: list[_Seen] = []
        for pixels in ahead(prepare, in_batches(views, self.batch)):
            waiting += self._look(pixels, encoder, ask)
            while len(waiting) >= tiling.views:
                yield self._result(waiting[: tiling.views], ask, tiling)
                del waiting[: tiling.views]

    def _encoder_for(self, ask: "_Question") -> "Encoder":
        """How the tower runs, measured now if `speed_up` asked for it."""
        if self._encoder is None:
            from flawline.serve.encoder import PLAIN, Encoder
            from flawline.serve.speed import fastest_plan

            plan = PLAIN
            if self._expected and self.root is not None and not self.method.reads_pixels:
                plan = fastest_plan(self, partial(self._look, ask=ask), self._expected, self.root)
            self._encoder = Encoder(self.method, self.paths, self.batch, plan)
        return self._encoder

    def _look(self, pixels: "Tensor", encoder: "Encoder", ask: "_Question") -> "list[_Seen]":
        """What the method says of each of B views [B, 3, S, S]."""
        from flawline.prompts.shared.base import MAIN
        from flawline.prompts.shared.batches import Inputs

        count, size = len(pixels), self.method.backbone.image_size
        read = encoder(pixels)
        inputs = Inputs(
            cls=read[MAIN].cls,
            patches=read[MAIN].patches,
            nouns=[ask.noun] * count,
            categories=[ask.category] * count,
            more={role: encoded.patches for role, encoded in read.items() if role != MAIN},
            pixels=pixels if self.method.reads_pixels else None,
        )
        if not ask.types:
            scores, maps = self.method.score(inputs, size)
            return [_Seen(value, one) for value, one in zip(scores.tolist(), maps.cpu(), strict=True)]
        told = self.method.score_and_types(inputs, ask.types, size)
        scores, maps, types, type_maps = (values.cpu() for values in told)
        rows = zip(scores.tolist(), maps, types.tolist(), type_maps, strict=True)
        return [_Seen(value, one, shares, places) for value, one, shares, places in rows]

    def _result(self, views: "list[_Seen]", ask: "_Question", tiling: "Tiling") -> Result:
        """One picture's result from its views: the whole and its tiles."""
        import torch

        worst = max(views, key=lambda view: view.score)
        bad = worst.score > self.threshold
        heat = tiling.blend(torch.stack([view.map for view in views])).numpy()
        types: dict[str, float] = {}
        type_map = None
        if ask.types:
            types = dict(zip([GOOD, *ask.types], worst.types, strict=True))
            places = torch.stack([view.type_map for view in views if view.type_map is not None])
            type_map = tiling.blend(places).argmax(0).numpy().astype("int16")
        defect = (type_name(types) if types else "anomaly") if bad else GOOD
        told = self.named_by(ask.types)
        return Result(worst.score, self.threshold, bad, defect, heat, types, type_map, told)


@dataclass(frozen=True)
class _Question:
    """What is asked of all pictures of a call; `types` is empty where none are told apart."""

    noun: str
    category: str
    types: list[str]


@dataclass(frozen=True)
class _Seen:
    """What a method says of one view: map [S, S], types [1 + K], type_map [1 + K, S, S]."""

    score: float
    map: "Tensor"
    types: list[float] = field(default_factory=list)
    type_map: "Tensor | None" = None


def type_name(types: dict[str, float]) -> str:
    """The most probable defect type, or `unknown`: it must be `STANDS_OUT` times as probable as among equals."""
    defects = {name: value for name, value in types.items() if name != GOOD}
    total = sum(defects.values())
    best = max(defects, key=lambda name: defects[name])
    clear = len(defects) == 1 or defects[best] * len(defects) >= STANDS_OUT * total
    return best if clear else UNKNOWN
