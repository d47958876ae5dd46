"""Sections that images go through before anything is tuned: `data`, `checks`, `backbone`, `features`, `synth`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flawline.settings.base import Fraction, Name, Strict


class DataSettings(Strict):
    """Which data sets train and which test; both are folders below data/."""

    train: Annotated[list[Name], Field(min_length=1)]
    test: Annotated[list[Name], Field(min_length=1)]
    max_pixels: Annotated[int, Field(ge=1024)] = 50_000_000

    @model_validator(mode="after")
    def _no_repeats(self) -> "DataSettings":
        for key in ("train", "test"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"data.{key} names a data set twice")
        return self

    @property
    def all(self) -> list[str]:
        """Every named data set once, sorted."""
        return sorted({*self.train, *self.test})


class ChecksSettings(Strict):
    min_good: Annotated[int, Field(ge=1)] = 8
    min_side: Annotated[int, Field(ge=8)] = 64
    max_side: Annotated[int, Field(ge=64)] = 8192


class BackboneSettings(Strict):
    """The frozen CLIP: an open_clip architecture and where its weights come from."""

    name: str
    weights: str
    image_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    seed: int = 0


#: a block of a tower: an int counts from 1, a float is a share of the depth (0.5 of 12 blocks is block 6)
Block = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


class ImagePath(Strict):
    """How features are read from the image tower; see flawline.clip.image_path.

    Attributes:
        attention: `plain` reads the tower as it is; `vv` and `qk` read a local stream beside it.
        first_block: where the local stream starts.
        levels: after which blocks patch features are read.
        radius: how far a patch sees in the local stream, in patches; null: everywhere.
        space: `joint` reads through the final norm and the projection, `tower` reads the stream itself.
        image_norm: whether the image feature passes the final norm (released AnomalyCLIP and FAPrompt: no).
    """

    attention: Literal["plain", "qk", "vv"] = "plain"
    first_block: Block = 1
    levels: Annotated[list[Block], Field(min_length=1)] = Field(default_factory=lambda: [1.0])
    radius: Annotated[int, Field(ge=0)] | None = None
    space: Literal["joint", "tower"] = "joint"
    image_norm: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> "ImagePath":
        if self.attention == "plain" and (self.radius is not None or self.first_block != 1):
            raise ValueError("attention 'plain' takes neither radius nor first_block")
        return self


class FeatureSettings(Strict):
    """Frozen features: how they are read, and the store that keeps them; see flawline.features.cache.

    Attributes:
        cache: folder of the store, relative to the workspace.
        cache_gb: its most, in 10^9 bytes; 0: no store.
    """

    paths: Annotated[dict[Name, ImagePath], Field(min_length=1)]
    dtype: Literal["float32", "float16"] = "float16"
    batch: Annotated[int, Field(ge=1)] = 32
    support: Annotated[int, Field(ge=0)] = 8
    real: bool = False
    cache: Annotated[str, Field(min_length=1)] = ".flawline/features"
    cache_gb: Annotated[float, Field(ge=0)] = 10.0


class SynthSettings(Strict):
    """Synthetic anomalies (OAGM): see flawline.synth."""

    variants: Annotated[int, Field(ge=1)] = 3
    seed: int = 0
    object_mask: Literal["clip", "otsu", "whole"] = "clip"
    full_object_share: Fraction = 0.1
    area: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [0.01, 0.2]
    )
    noises: dict[str, Annotated[float, Field(ge=0)]]
    opacity: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [0.5, 1.0]
    )

    @model_validator(mode="after")
    def _consistent(self) -> "SynthSettings":
        for key in ("area", "opacity"):
            low, high = getattr(self, key)
            if not 0 < low <= high <= 1:
                raise ValueError(f"synth.{key} must be [low, high] with 0 < low <= high <= 1")
        if sum(self.noises.values()) <= 0:
            raise ValueError("synth.noises needs at least one weight above 0")
        return self
