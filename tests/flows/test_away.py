"""What counts as a server that is away, and that only this is tried again."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from prefect.states import exception_to_failed_state
from requests import ConnectionError as NoConnection

import small_line
from flawline.errors import FlawlineError
from flawline.settings import load_settings
from flawline.workspace import Workspace
from flows.away import PATIENCE, Away, mlflow_may_be_away
from flows.stages import worth_retrying


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    (tmp_path / "params.yaml").write_text(small_line.PARAMS)
    return Workspace(tmp_path)


def unusable() -> FlawlineError:
    """As the store tells it when a server does not answer."""
    error = FlawlineError("the MLflow store http://h:1 cannot be used: refused", "start its server")
    error.__cause__ = MlflowException("refused")
    return error


@pytest.mark.parametrize("raised", [MlflowException("one\ntwo"), NoConnection("refused"), unusable()])
def test_what_mlflow_raises_becomes_one_line(place: Workspace, raised: Exception) -> None:
    with pytest.raises(Away) as told, mlflow_may_be_away(place, load_settings(place.params)):
        raise raised
    assert "\n" not in str(told.value) and "MLflow store" in str(told.value)
    assert "run flawline retrain again" in str(told.value)


def test_bad_input_stays_what_it_is(place: Workspace) -> None:
    with (
        pytest.raises(FlawlineError, match=r"^a bad file$") as told,
        mlflow_may_be_away(place, load_settings(place.params)),
    ):
        raise FlawlineError("a bad file")
    assert not isinstance(told.value, Away)


def test_what_a_server_has_refused_is_not_waited_for(place: Workspace) -> None:
    refused = MlflowException("no such thing", error_code=INVALID_PARAMETER_VALUE)
    with (
        pytest.raises(FlawlineError, match="no such thing") as told,
        mlflow_may_be_away(place, load_settings(place.params)),
    ):
        raise refused
    assert not isinstance(told.value, Away) and "\n" not in str(told.value)


def test_only_what_may_pass_is_tried_again() -> None:
    async def state(error: Exception) -> object:
        return await exception_to_failed_state(error)

    import asyncio

    again = {
        error: worth_retrying(None, SimpleNamespace(run_count=1), asyncio.run(state(error)))  # type: ignore[arg-type]
        for error in (Away("away"), FlawlineError("bad input"), OSError("busy"))
    }
    assert list(again.values()) == [True, False, True]
    assert sum(PATIENCE) > 120, "a machine that starts again is waited for"
