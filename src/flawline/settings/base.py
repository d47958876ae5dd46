"""What all sections of params.yaml share: strict reading, and the kinds of values that several have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=64)]


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversions (an int where a float stands is fine)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
