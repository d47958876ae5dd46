"""The section `schedule:` of params.yaml: what runs by itself on a Prefect server. No stage depends on it."""

from typing import Annotated

from pydantic import Field

from flawline.settings.base import Name, Strict


class ScheduleSettings(Strict):
    """What `flawline deploy` puts on a Prefect server.

    Attributes:
        cron: when to retrain; null: on events and by hand alone.
        timezone: of `cron`, by its IANA name.
        look_seconds: how often data/ is looked at for new defect types.
        settle_seconds: a new type counts once nothing of it changed for so long.
        work_pool: whose workers run the deployments; made as a process pool where it is missing.
    """

    cron: Annotated[str, Field(min_length=1)] | None = None
    timezone: Annotated[str, Field(min_length=1)] = "UTC"
    look_seconds: Annotated[int, Field(ge=5)] = 60
    settle_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    work_pool: Name = "flawline"
