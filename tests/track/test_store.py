"""Which store is opened, and what happens when it cannot be."""

import os
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.track.store import embedded_artifacts, embedded_uri, open_store, tracking_uri
from flawline.workspace import Workspace


def with_uri(settings: Settings, uri: str) -> Settings:
    return settings.model_copy(update={"track": settings.track.model_copy(update={"uri": uri})})


def test_params_before_environment_before_embedded(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri(workspace, settings) == embedded_uri(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking_uri(workspace, settings) == "http://server"
    assert tracking_uri(workspace, with_uri(settings, "sqlite:///x.db")) == "sqlite:///x.db"


def test_the_experiment_is_made_once_and_keeps_files_in_the_workspace(
    workspace: Workspace, settings: Settings
) -> None:
    one, two = open_store(workspace, settings), open_store(workspace, settings)
    assert one.experiment_id == two.experiment_id
    experiment = one.client.get_experiment(one.experiment_id)
    assert experiment.artifact_location == embedded_artifacts(workspace).as_uri()


def test_opening_one_workspace_does_not_bind_the_next(
    workspace: Workspace, settings: Settings, tmp_path: Path
) -> None:
    open_store(workspace, settings)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert tracking_uri(Workspace(tmp_path), settings) != tracking_uri(workspace, settings)


@pytest.mark.parametrize("uri", ["sqlite:////proc/nothing/mlflow.db", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_named(workspace: Workspace, settings: Settings, uri: str) -> None:
    with pytest.raises(FlawlineError, match="cannot be used") as caught:
        open_store(workspace, with_uri(settings, uri))
    assert "\n" not in str(caught.value)


def test_a_deleted_experiment_is_told(workspace: Workspace, settings: Settings) -> None:
    store = open_store(workspace, settings)
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(FlawlineError, match="was deleted"):
        open_store(workspace, settings)


def test_a_password_in_params_is_refused(workspace: Workspace, settings: Settings) -> None:
    track = settings.track.model_copy(update={"uri": "http://me:planted-secret@host:5000"})
    with pytest.raises(
        FlawlineError, match=r"track\.uri.*holds a password.*MLFLOW_TRACKING_PASSWORD"
    ) as error:
        tracking_uri(workspace, settings.model_copy(update={"track": track}))
    assert "planted-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "shown", "moved"),
    [
        (
            "https://me:p%40ss@host:5000/x",
            "https://host:5000/x",
            {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss"},
        ),
        ("postgresql://me:p%40ss@host/mlflow", "postgresql://me@host/mlflow", {"PGPASSWORD": "p@ss"}),
        ("http://host:5000", "http://host:5000", {}),
    ],
)
def test_a_password_in_the_environment_is_never_shown(
    workspace: Workspace,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    shown: str,
    moved: dict[str, str],
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    for _ in range(2):  # the second time it stands there without the password
        assert tracking_uri(workspace, settings) == shown
        assert os.environ["MLFLOW_TRACKING_URI"] == shown
        assert {name: os.environ.get(name) for name in moved} == moved
