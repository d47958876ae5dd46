"""Variants of a method, for ablations: what params.yaml says with a variant's changes in it, and where its files lie.

A variant is named `method@variant`; `method@default` is the method as params.yaml describes it. Variants stand
below `ablations:` of params.yaml and nowhere else, so tune.methods cannot name one: no variant is ever compared
with the methods, challenges the champion, or is served.
"""

from dataclasses import dataclass
from typing import Any

from flawline.errors import FlawlineError
from flawline.settings import Settings, Variant, parse_settings
from flawline.workspace import VariantWorkspace, Workspace

DEFAULT = "default"
_ALWAYS_OWN = frozenset({"prompts", "tuning", "evaluation"})


@dataclass(frozen=True)
class VariantId:
    """Which variant of which method."""

    method: str
    variant: str

    def __str__(self) -> str:
        return f"{self.method}@{self.variant}"

    @classmethod
    def parse(cls, text: str) -> "VariantId":
        """Read `method@variant`.

        Raises:
            FlawlineError: it is written otherwise.
        """
        method, at, variant = text.partition("@")
        if not (method and at and variant):
            raise FlawlineError(f"'{text}' names no variant", "write METHOD@VARIANT, e.g. human_free@default")
        return cls(method, variant)


def variants_of(settings: Settings, method: str) -> dict[str, Variant | None]:
    """The variants of a method in the order of params.yaml, `default` (None) first.

    Raises:
        FlawlineError: params.yaml describes no ablation of it.
    """
    found = settings.ablations.get(method)
    if not found:
        known = ", ".join(sorted(name for name, variants in settings.ablations.items() if variants))
        remedy = f"there are some of {known}" if known else "add them below ablations:"
        raise FlawlineError(f"params.yaml: ablations has no variants of '{method}'", remedy)
    return {DEFAULT: None, **found}


def of(settings: Settings, which: VariantId) -> Variant | None:
    """What params.yaml says of a variant; None for the default.

    Raises:
        FlawlineError: there is no such variant.
    """
    if which.variant == DEFAULT and which.method in settings.methods:
        return None
    variants = variants_of(settings, which.method)
    if which.variant not in variants:
        known = ", ".join(variants)
        raise FlawlineError(
            f"params.yaml: ablations.{which.method} has no '{which.variant}'", f"it has {known}"
        )
    return variants[which.variant]


def own_parts(variant: Variant | None) -> frozenset[str]:
    """The parts of out/ that a variant makes anew: other anomalies or image paths need other features too."""
    own = set(_ALWAYS_OWN)
    for key in variant.change if variant else ():
        if key.startswith("synth."):
            own |= {"synth", "features/train"}
        elif key.startswith("features."):
            own.add("features")
    return frozenset(own)


def entered(workspace: Workspace, settings: Settings, which: VariantId) -> tuple[VariantWorkspace, Settings]:
    """Workspace and settings for the ordinary stages to make one variant.

    Raises:
        FlawlineError: there is no such variant, or its changes make no valid settings.
    """
    own = own_parts(of(settings, which))
    return VariantWorkspace(workspace.root, which.method, which.variant, own), changed(settings, which)


def changed(settings: Settings, which: VariantId) -> Settings:
    """The settings with a variant's changes.

    Two things differ for every variant, the default included: no pictures are drawn, and where a variant needs
    features of its own, only the image paths that the method names are read.

    Raises:
        FlawlineError: there is no such variant, or a change is not valid; the message names the key.
    """
    variant = of(settings, which)
    raw = settings.model_dump()
    for key, value in variant.change.items() if variant else ():
        _set(raw, key if "." in key else f"methods.{which.method}.{key}", value, which)
    if "features" in own_parts(variant):
        used = _paths(raw["methods"][which.method])
        raw["features"]["paths"] = {k: v for k, v in raw["features"]["paths"].items() if k in used}
    raw["evaluate"]["overlays"] = 0
    return parse_settings(raw, f"params.yaml with ablations.{which.method}.{which.variant}")


def _set(raw: dict[str, Any], key: str, value: Any, which: VariantId) -> None:
    *above, last = key.split(".")
    place: Any = raw
    for part in above:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise FlawlineError(
            f"params.yaml: ablations.{which.method}.{which.variant}.change names '{key}', which is not there",
            "change a key that params.yaml has",
        )
    place[last] = value


def _paths(options: dict[str, Any]) -> set[str]:
    """The image paths that a method's section names."""
    named: set[str] = set()
    for key, value in options.items():
        if key.endswith("_path") and value is not None:
            named |= {value} if isinstance(value, str) else set(value)
    return named
