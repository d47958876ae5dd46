"""Sections `tune` and `evaluate`: which prompt sets are tuned, and how they are measured."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flawline.settings.base import Name, Strict


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
