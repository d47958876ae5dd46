"""A cron schedule on the real server: the run comes by itself, on time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from running import Service, wait_for

from conftest import Line, restore  # type: ignore[import-not-found]
from flawline.errors import FlawlineError

pytestmark = pytest.mark.slow


def test_a_scheduled_retraining_fires(
    line: Callable[..., Line], worker: Callable[..., Service], undisturbed: Path
) -> None:
    here = line(cron="* * * * *")
    restore(undisturbed, here.root)
    here.deploy()
    worker(here.api, here.pool)
    done = wait_for(
        "a scheduled run ends",
        lambda: [run for run in here.runs() if run.state and run.state.is_final()],
        300,
    )
    assert done[0].auto_scheduled and done[0].state.name == "Completed", done[0].state.message
    assert done[0].expected_start_time.second == 0 and here.decisions() == ["0001-promote.json"]


@pytest.mark.parametrize(
    "wrong", [{"cron": "every night"}, {"cron": "0 2 * * *", "timezone": "Mars/Olympus"}]
)
def test_an_impossible_schedule_is_one_line(line: Callable[..., Line], wrong: dict[str, str]) -> None:
    with pytest.raises(FlawlineError, match=r"^schedule\.cron .* is no schedule: .*") as told:
        line(**wrong).deploy()
    assert "\n" not in str(told.value)


def test_no_server_is_one_line(line: Callable[..., Line]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deployments import deploy

    here = line()
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(FlawlineError, match="no Prefect server is named — set PREFECT_API_URL"),
    ):
        deploy(here.workspace, here.settings)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(FlawlineError, match=r"cannot deploy to the Prefect server http://127\.0\.0\.1:9/api"),
    ):
        deploy(here.workspace, here.settings)
