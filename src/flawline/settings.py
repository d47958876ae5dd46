"""params.yaml, read strictly: a wrong type, an unknown key or an impossible value ends with one clear line.

Method options are validated by the method's own file (flawline.prompts), because only it knows them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flawline.errors import FlawlineError

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=64)]


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversions (an int where a float stands is fine)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


class ThresholdSettings(Strict):
    """How a prompt set's threshold is chosen; see flawline.tune.thresholds.

    Attributes:
        rule: `quantile` of the good training images' scores, or `f1`: the best F1 against training-side defects.
        quantile: of the rule `quantile`.
    """

    rule: Literal["quantile", "f1"] = "quantile"
    quantile: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    def __str__(self) -> str:
        return f"{{rule: {self.rule}, quantile: {self.quantile}}}"


class TuneSettings(Strict):
    methods: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    threshold: ThresholdSettings = Field(default_factory=ThresholdSettings)

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, raw: Any) -> Any:
        """Files written before there were rules say `threshold_quantile: 0.95`."""
        if not isinstance(raw, dict) or "threshold_quantile" not in raw:
            return raw
        if "threshold" in raw:
            raise ValueError(
                "tune.threshold_quantile is the old name of tune.threshold.quantile, and both are given"
            )
        rest = {key: value for key, value in raw.items() if key != "threshold_quantile"}
        return {**rest, "threshold": {"quantile": raw["threshold_quantile"]}}


class EvaluateSettings(Strict):
    map_size: Annotated[int, Field(ge=16)] | None = None
    pro_limit: Annotated[float, Field(gt=0, le=1)] = 0.3
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    bins: Annotated[int, Field(ge=64)] = 1024
    overlays: Annotated[int, Field(ge=0)] = 4
    seed: int = 0


class GateSettings(Strict):
    """When a challenger replaces the champion: see flawline.track.gate."""

    metrics: Annotated[list[Literal["image_auroc", "pixel_auroc"]], Field(min_length=1)]
    better_in: Literal["image_auroc", "pixel_auroc"] = "image_auroc"
    margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    baseline: Name = "words"
    seed: int = 0


class TrackSettings(Strict):
    experiment: str = "flawline"
    model: Name = "flawline"
    uri: str | None = None


class RunSettings(Strict):
    """Where stages run and how many at once; no stage depends on it, so changing it reruns nothing.

    Attributes:
        workers: stages at once on this machine; `auto`: as its cores and memory allow.
        threads: of each stage. A fixed number, because sums may round otherwise with another one.
        dask: null, `local:N` (N worker processes here), or the address of a Dask scheduler.
    """

    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    dask: Annotated[str, Field(pattern=r"^(local:[1-9][0-9]?|(tcp|tls|ws|wss)://[^\s/]+:[0-9]+)$")] | None = (
        None
    )


#: a variant's name stands in file, stage and run names
VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40)]


class Variant(Strict):
    """One variant of a method in an ablation; see flawline.variants.

    Attributes:
        part: which part of the method it changes, as people name it: MPTS, LAA.
        why: what it asks, in a line.
        change: an option of the method by its name, or a key of `synth` or of an image path with all its dots
            (`synth.object_mask`, `features.paths.laa.radius`), with the value it has here.
    """

    part: Annotated[str, Field(min_length=1, max_length=40)]
    why: Annotated[str, Field(min_length=1)]
    change: Annotated[dict[str, Any], Field(min_length=1)]

    @model_validator(mode="after")
    def _known_places(self) -> "Variant":
        for key in self.change:
            if "." in key and not key.startswith(("synth.", "features.paths.")):
                raise ValueError(
                    f"change names '{key}': an option of the method has no dot, and of the other keys only those "
                    "below synth. and features.paths. may change"
                )
        return self


class Settings(Strict):
    """All of params.yaml."""

    data: DataSettings
    checks: ChecksSettings
    backbone: BackboneSettings
    features: FeatureSettings
    synth: SynthSettings
    methods: dict[Name, dict[str, Any]]
    ablations: dict[Name, dict[VariantName, Variant]] = Field(default_factory=dict)
    tune: TuneSettings
    evaluate: EvaluateSettings
    gate: GateSettings
    track: TrackSettings
    run: RunSettings = Field(default_factory=RunSettings)

    @model_validator(mode="after")
    def _methods_are_described(self) -> "Settings":
        for method in self.tune.methods:
            if method not in self.methods:
                known = ", ".join(sorted(self.methods))
                raise ValueError(
                    f"tune.methods names '{method}', which methods: does not describe (it has {known})"
                )
        for method, variants in self.ablations.items():
            if method not in self.methods:
                raise ValueError(f"ablations names '{method}', which methods: does not describe")
            if "default" in variants:
                raise ValueError(
                    f"ablations.{method}.default: this is the unchanged method's name, take another"
                )
        if self.gate.better_in not in self.gate.metrics:
            raise ValueError("gate.better_in must be one of gate.metrics")
        return self


def load_settings(path: Path) -> Settings:
    """Read params.yaml.

    Raises:
        FlawlineError: the file is missing, is not YAML, or holds a wrong value; the message names the key.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        raw = YAML(typ="safe", pure=True).load(Path(path))
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing", "run inside a flawline checkout") from error
    except YAMLError as error:
        raise FlawlineError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}", "fix that line"
        ) from error
    return parse_settings(raw, str(path))


def parse_settings(raw: object, source: str = "params.yaml") -> Settings:
    """Validate an already parsed mapping; `source` is named in errors."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise FlawlineError(
            f"{source}: {describe(error)}", "fix the key; docs/params.md lists them all"
        ) from error


def describe(error: ValidationError) -> str:
    """The first few faults of a pydantic error on one line, each with its dotted key and the value given."""
    faults = []
    for item in error.errors()[:3]:
        key = ".".join(str(part) for part in item["loc"]) or "(whole file)"
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in {"missing", "value_error"} else f" (got {item['input']!r})"
        faults.append(f"{key}: {message}{given}")
    more = len(error.errors()) - len(faults)
    return "; ".join(faults) + (f"; and {more} more" if more > 0 else "")
