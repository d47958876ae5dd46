"""The section `watch:` of params.yaml; see docs/watch.md. No stage depends on it."""

from typing import Annotated

from pydantic import Field

from flawline.settings.base import Name, Strict

Share = Annotated[float, Field(gt=0, le=1)]


class WatchSettings(Strict):
    """What `flawline watch` looks at, and when it speaks.

    Attributes:
        source: folder or s3:// prefix, for the deployment and for `flawline watch` without an argument.
        interval: seconds between two looks.
        reference: data sets whose labelled images are known; null: all of data.train and data.test; []: none.
        bank: images of each category's good ones, and of each of its types, that are remembered.
        crop: side of a crop, as a share of the picture's shorter side.
        match: an image counts as a known type where a champion that names types gives one this share of the defects.
        like: least cosine of a crop with a labelled one that explains it.
        distance: cosine distance, on average, within which crops are one cluster.
        least: crops that a cluster must have.
        stability: least share of a cluster that stays together where `distance` is a fifth less or a quarter more.
        keep: crops without an explanation that are kept, the newest.
        drift_images: newest good images that are compared with the reference.
        drift_least: below so many nothing is said.
        drift_level: least Kolmogorov-Smirnov distance that counts as drift.
        drift_p: and the largest p-value.
    """

    source: Annotated[str, Field(min_length=1)] | None = None
    interval: Annotated[int, Field(ge=1)] = 60
    reference: list[Name] | None = None
    bank: Annotated[int, Field(ge=5)] = 24
    crop: Share = 0.5
    match: Share = 0.6
    like: Share = 0.95
    distance: Annotated[float, Field(gt=0, lt=1)] = 0.2
    least: Annotated[int, Field(ge=2)] = 5
    stability: Share = 0.6
    keep: Annotated[int, Field(ge=10, le=10000)] = 2000
    drift_images: Annotated[int, Field(ge=16)] = 64
    drift_least: Annotated[int, Field(ge=8)] = 32
    drift_level: Share = 0.35
    drift_p: Annotated[float, Field(gt=0, lt=1)] = 0.001
