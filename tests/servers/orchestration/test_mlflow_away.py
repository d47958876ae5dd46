"""MLflow's server is away when a retraining is to be logged: waited for, told in one line, and logged once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import MlflowServer

import flows.retrain as retraining
from aftermath import assert_sound, assert_sound_and_repeatable
from conftest import Line, restore  # type: ignore[import-not-found]
from flawline.errors import FlawlineError
from flawline.track import log as tracking

pytestmark = pytest.mark.slow


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server that this test starts and stops itself."""
    server = MlflowServer(tmp_path / "mlflow")
    yield server
    server.stop()


@pytest.fixture
def here(
    line: Callable[..., Line], undisturbed: Path, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> Line:
    """A workspace whose stages are done, to be logged at that server."""
    made = line()
    restore(undisturbed, made.root)
    text = made.workspace.params.read_text()
    made.workspace.params.write_text(
        text.replace("experiment: small,", f"experiment: small, uri: '{mlflow.uri}',")
    )
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return made


def patient(monkeypatch: pytest.MonkeyPatch, tries: int) -> None:
    """Try so often, and more quickly than a real server needs to come back."""
    for name in ("log_results", "gate", "publish"):
        task: Any = getattr(retraining, name).with_options(retries=tries, retry_delay_seconds=1)
        monkeypatch.setattr(retraining, name, task)


def test_the_result_is_logged_once_when_the_server_is_back(
    here: Line, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 1)
    with here.here(), pytest.raises(FlawlineError) as told:
        retraining.main(here.root)
    assert mlflow.uri in str(told.value) and "\n" not in str(told.value)
    assert str(told.value).endswith("the result is logged once")
    assert here.workspace.metrics.is_file() and not here.decisions()

    mlflow.start()
    with here.here():
        outcome = retraining.main(here.root)
        again = retraining.main(here.root)
    assert outcome.logged and outcome.judgement.verdict == "promote"
    assert not again.logged and again.run_id == outcome.run_id and here.logged() == 7
    assert_sound_and_repeatable(here.root)


def test_a_server_that_dies_while_it_is_logged_to_and_comes_back(
    here: Line, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 90)
    mlflow.start()
    original, calls = tracking.log_cell, []

    def dies_at_the_third(*given: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            mlflow.kill()
            threading.Thread(target=mlflow.start).start()
        original(*given, **named)

    monkeypatch.setattr(tracking, "log_cell", dies_at_the_third)
    with here.here():
        outcome = retraining.main(here.root)
    assert len(calls) == 9, "three before, and all six after"
    assert outcome.logged and here.logged() == 7 and here.decisions() == ["0001-promote.json"]
    assert_sound(here.root)
