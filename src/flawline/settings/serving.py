"""Sections that no stage depends on: `gate`, `track` and `run`."""

from typing import Annotated, Literal

from pydantic import Field

from flawline.settings.base import Name, Strict


class GateSettings(Strict):
    """When a challenger replaces the champion: see flawline.gate.

    Attributes:
        margin: how much worse still is not worse, on a data set and for the worst seed in the mean.
        type_margin: the same for one defect type.
        false_alarm_margin: how many more good images may be called defective, as a share.
        cost_factor: how many times the operations an image may take; null: not asked.
        min_images: good and defective images a test set needs; a type with fewer is not tested.
        min_seeds: seeds that must have been tuned.
    """

    metrics: Annotated[list[Literal["image_auroc", "pixel_auroc"]], Field(min_length=1)]
    better_in: Literal["image_auroc", "pixel_auroc"] = "image_auroc"
    margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    type_margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    false_alarm_margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    cost_factor: Annotated[float, Field(ge=1)] | None = 2.0
    min_images: Annotated[int, Field(ge=2)] = 20
    min_seeds: Annotated[int, Field(ge=1)] = 3
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
