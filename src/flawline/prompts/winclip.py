"""WinCLIP and WinCLIP+ (CVPR 2023): hand-written sentences, windows of patches, and a memory of good windows.

FACT: 7 + 4 state phrases in 22 photo templates; windows of 2x2 and 3x3 patches run through the tower alone; harmonic
means; WinCLIP+ adds memories of windows and patches, equal weights. CODE: there are only re-implementations; what one
of them (commit eef4f8c) does otherwise are options: `templates: released`, `noun: folder`, `temperature: 0.07`.
CHOICE: cosines times 100; the few-shot map is halved, which keeps it in 0..1 and changes no ranking.

Dimensions: B images, n windows of a scale, N patches, D joint, W width of the image tower.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.image_path import read_patches, walk
from flawline.clip.windows import encode_windows, spread, windows
from flawline.prompts.shared.base import MethodOptions, PromptMethod
from flawline.prompts.shared.batches import Inputs, rows_by
from flawline.prompts.shared.maps import finish_maps
from flawline.prompts.shared.memory import PatchMemory
from flawline.prompts.shared.sentences import ABNORMAL_STATES, NORMAL_STATES, prototypes, templates

PATCH = "patch"


class WinClipOptions(MethodOptions):
    """Options of WinCLIP; see docs/params.md.

    Attributes:
        noun: `category` (paper), `object`, or `folder`: the category's folder name as it stands (released).
        smoothing: the paper smooths nothing.
        shots: good images a category that are remembered before scoring; 0 is zero-shot WinCLIP.
        windows: patches a side of the windows of each scale; 1 would add single patches to the zero-shot map.
        stride: patches between windows; the paper's 1 costs about twelve passes of the tower an image, 2 four.
        templates: the paper's 22 photo templates, or the re-implementation's 21.
    """

    noun: Literal["category", "object", "folder"] = "category"  # type: ignore[assignment]
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    shots: Annotated[int, Field(ge=0, le=1024)] = 0
    windows: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1)] = Field(
        default_factory=lambda: [2, 3]
    )
    stride: Annotated[int, Field(ge=1, le=64)] = 1
    templates: Literal["paper", "released"] = "paper"


class WinClip(PromptMethod):
    name = "winclip"
    fidelity = "baseline"
    score_formula = "p_image; with support: (p_image + max of the memory's map) / 2"
    Options = WinClipOptions
    options: WinClipOptions
    reads_pixels = True
    reads_patches = False

    def __init__(self, backbone: Backbone, options: WinClipOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        sides = sorted(set(options.windows))
        self.places = {f"window_{side}": windows(backbone.grid, side, options.stride) for side in sides}
        self.memories = nn.ModuleDict({scale: PatchMemory() for scale in (*self.places, PATCH)})

    @property
    def needs_support(self) -> bool:
        return self.options.shots > 0

    def photos(self) -> list[str]:
        """The photo templates, each with a place for the state phrase."""
        written = templates()
        if (
            self.options.templates == "released"
        ):  # lacks one; another stands twice, where its other article was
            written.remove("a cropped photo of a {}.")
            written[written.index("a jpeg corrupted photo of a {}.")] = "a jpeg corrupted photo of the {}."
        return written

    def text_features(self, noun: str) -> Tensor:
        return prototypes(self.backbone, NORMAL_STATES, ABNORMAL_STATES, noun, self.photos())

    def words(self) -> dict[str, list[str]]:
        return {"normal": list(NORMAL_STATES), "abnormal": list(ABNORMAL_STATES), "templates": self.photos()}

    def encode(self, pixels: Tensor) -> dict[str, Tensor]:
        """Unit features by scale: windows [B, n, D], and last-block patch tokens [B, N, W] of the full image."""
        found = {
            scale: encode_windows(self.backbone, pixels, places) for scale, places in self.places.items()
        }
        *_, last = walk(self.backbone, pixels)
        return found | {PATCH: read_patches(self.backbone, last.after[:, 1:], "tower")}

    @torch.no_grad()
    def remember(self, good: Inputs) -> None:
        for scale, features in self.encode(good.need_pixels()).items():
            self._memory(scale).fill(features[:, None], good.categories)

    @torch.no_grad()
    def score(self, inputs: Inputs, size: int) -> tuple[Tensor, Tensor]:
        """Scores [B] and maps [B, size, size]: zero-shot, or with the memory once good images were remembered.

        Raises:
            FlawlineError: good images were remembered, but none of an image's category.
        """
        seen = self.encode(inputs.need_pixels())
        image, grid = self.zero_shot(inputs, seen)
        if self._memory(PATCH).of:
            few = torch.stack(list(self.memory_maps(inputs, seen).values())).mean(0)
            image, grid = (image + few.amax(1)) / 2, (grid + few) / 2
        return image, finish_maps(grid, size, self.options.smoothing * size / self.backbone.image_size)

    def zero_shot(self, inputs: Inputs, seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Probability of any defect: images [B], patches [B, N]: the harmonic mean of image and window scales."""
        image = torch.empty(len(inputs))
        maps = {scale: torch.empty(len(inputs), seen[PATCH].shape[1]) for scale in self.places}
        for noun, rows in rows_by(self._nouns(inputs)).items():
            text = self.folded(noun)
            image[rows] = self._abnormal(inputs.cls[rows], text)
            for scale, places in self.places.items():
                probability = self._abnormal(seen[scale][rows], text)
                maps[scale][rows] = spread(probability, places, maps[scale].shape[1])
        scores = torch.stack([image[:, None].expand_as(maps[next(iter(maps))]), *maps.values()])
        return image, 1 / scores.clamp(min=torch.finfo(scores.dtype).tiny).reciprocal().mean(0)

    def memory_maps(self, inputs: Inputs, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """By scale, ½(1 - max cosine) with the good tokens of the image's category, on the patches: [B, N]."""
        found = {}
        for scale, features in seen.items():
            distance = self._memory(scale).distance(features[:, None], inputs.categories)[:, 0]
            found[scale] = (
                distance if scale == PATCH else spread(distance, self.places[scale], seen[PATCH].shape[1])
            )
        return found

    def _memory(self, scale: str) -> PatchMemory:
        memory = self.memories[scale]
        assert isinstance(memory, PatchMemory)
        return memory

    def _nouns(self, inputs: Inputs) -> list[str]:
        if self.options.noun == "folder" and inputs.categories:
            return list(inputs.categories)
        return self.nouns_of(inputs)

    def _abnormal(self, features: Tensor, text: Tensor) -> Tensor:
        return (features @ text.T / self.options.temperature).softmax(-1)[..., 1]


Method = WinClip
