"""A finished miniature workspace and an empty MLflow database, each made once and copied for every test."""

import shutil
from pathlib import Path

import pytest

import small_line
from flawline.settings import Settings, load_settings
from flawline.workspace import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file the stages leave; shared, so only read it."""
    root = tmp_path_factory.mktemp("finished")
    small_line.finish(root)
    return root


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(
    finished: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A finished workspace of its own, with a store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "work space"
    shutil.copytree(finished, root)
    (root / ".state" / "mlflow").mkdir(parents=True)
    shutil.copy(empty_database, root / ".state" / "mlflow" / "mlflow.db")
    return Workspace(root)


@pytest.fixture
def settings(workspace: Workspace) -> Settings:
    return load_settings(workspace.params)
