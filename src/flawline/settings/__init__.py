"""params.yaml, read strictly: a wrong type, an unknown key or an impossible value ends with one clear line.

Method options are validated by the method's own file (flawline.prompts), because only it knows them.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from flawline.errors import FlawlineError
from flawline.settings.base import Name, Strict
from flawline.settings.images import (
    BackboneSettings,
    Block,
    ChecksSettings,
    DataSettings,
    FeatureSettings,
    ImagePath,
    SynthSettings,
)
from flawline.settings.schedule import ScheduleSettings
from flawline.settings.serving import GateSettings, RunSettings, TrackSettings
from flawline.settings.tuning import EvaluateSettings, ThresholdSettings, TuneSettings
from flawline.settings.variants import Variant, VariantName
from flawline.settings.watch import WatchSettings

__all__ = [
    "BackboneSettings",
    "Block",
    "ChecksSettings",
    "DataSettings",
    "EvaluateSettings",
    "FeatureSettings",
    "GateSettings",
    "ImagePath",
    "Name",
    "RunSettings",
    "ScheduleSettings",
    "Settings",
    "Strict",
    "SynthSettings",
    "ThresholdSettings",
    "TrackSettings",
    "TuneSettings",
    "Variant",
    "VariantName",
    "WatchSettings",
    "describe",
    "load_settings",
    "parse_settings",
]


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
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    watch: WatchSettings = Field(default_factory=WatchSettings)

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
