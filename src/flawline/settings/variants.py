"""Section `ablations`: variants of a method that say what its parts are worth."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from flawline.settings.base import Strict

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
