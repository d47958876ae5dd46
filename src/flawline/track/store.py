"""Where MLflow keeps runs, artifacts and the registry: a server by address, or a store below .state/."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.track.environment import prepare
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class Store:
    """An opened store: its client, its address, and the experiment that runs go to."""

    client: "MlflowClient"
    uri: str
    experiment_id: str


def tracking_uri(workspace: Workspace, settings: Settings) -> str:
    """params track.uri, else MLFLOW_TRACKING_URI, else the embedded sqlite database; never with a password in it.

    Addresses are shown and logged. A password in the environment's address goes where its clients look for it as
    well: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or PGPASSWORD.

    Raises:
        FlawlineError: params.yaml holds a password.
    """
    stated = settings.track.uri
    if stated:
        if urlsplit(stated).password:
            raise FlawlineError(
                "track.uri in params.yaml holds a password, and params.yaml is logged and committed",
                "take it out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (a database: PGPASSWORD)",
            )
        return stated
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return _password_aside(given) if given else embedded_uri(workspace)


def _password_aside(uri: str) -> str:
    parts = urlsplit(uri)
    if not parts.password or parts.scheme.partition("+")[0] not in ("http", "https", "postgresql"):
        return uri
    user, password = unquote(parts.username or ""), unquote(parts.password)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme.startswith("http"):
        os.environ["MLFLOW_TRACKING_USERNAME"] = user
        os.environ["MLFLOW_TRACKING_PASSWORD"] = password
    else:
        os.environ["PGPASSWORD"] = password
        host = f"{parts.username}@{host}" if user else host
    plain = parts._replace(netloc=host).geturl()
    os.environ["MLFLOW_TRACKING_URI"] = plain
    return plain


def embedded_uri(workspace: Workspace) -> str:
    """Address of the embedded database; absolute, because MLflow resolves it in every process anew."""
    return f"sqlite:///{workspace.state / 'mlflow' / 'mlflow.db'}"


def embedded_artifacts(workspace: Workspace) -> Path:
    """Where the embedded store keeps artifacts."""
    return workspace.state / "mlflow" / "artifacts"


def open_store(workspace: Workspace, settings: Settings) -> Store:
    """Connect, and make the experiment if it is not there.

    Raises:
        FlawlineError: the store cannot be reached, or the experiment was deleted by hand.
    """
    prepare(workspace)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    # MLflow tells integer columns and missing examples at every call; both are meant so here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\..*")
    uri = tracking_uri(workspace, settings)
    location = None
    if uri == embedded_uri(workspace):
        embedded_artifacts(workspace).mkdir(parents=True, exist_ok=True)
        location = embedded_artifacts(workspace).as_uri()
    name = settings.track.experiment
    try:
        _use(uri)
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise FlawlineError(
                f"MLflow experiment '{name}' was deleted",
                "restore it (mlflow experiments restore) or rename track.experiment",
            )
        identity = (
            found.experiment_id if found else client.create_experiment(name, artifact_location=location)
        )
    except (MlflowException, OSError) as error:
        raise FlawlineError(
            f"the MLflow store {uri} cannot be used: {' '.join(str(error).split())[:300]}",
            "start its server, set track.uri in params.yaml, or check MLFLOW_TRACKING_USERNAME and _PASSWORD",
        ) from error
    return Store(client, uri, identity)


def _use(uri: str) -> None:
    """Set MLflow's global address (log_model and downloads know no other way) here alone.

    MLflow also exports it to the environment, where it would count as the user's wish for every workspace
    that this process or its children open later.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if before is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before
