"""A prompt set as an MLflow model: signature, requirements, and the code file that serves it."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import flawline
from flawline.files import read_json
from flawline.track.store import Store

NAME = "model"


def log_model(store: Store, folder: Path, run_id: str, sha256: str) -> tuple[str, str]:
    """Log a prompt set as a model of a run, once.

    Args:
        store: an open store.
        folder: the prompt set.
        run_id: the run that shows it.
        sha256: of the folder.

    Returns:
        The model's URI and MLflow's id of it.
    """
    from mlflow.models import ModelSignature

    import mlflow

    found = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run_id}' and name = '{NAME}'"
    )
    ready = [model for model in found if model.status == "READY" and model.tags.get("sha256") == sha256]
    if ready:
        return ready[0].model_uri, ready[0].model_id
    card = read_json(folder / "card.json")
    code = Path(__file__).with_name("pyfunc_model.py")
    with tempfile.TemporaryDirectory() as temporary, mlflow.start_run(run_id=run_id), _quiet():
        # MLflow keeps the folder's own name in the model; the prompt set's is only a seed.
        copy = Path(temporary) / "prompt_set"
        shutil.copytree(folder, copy)
        signature: ModelSignature = _signature()
        logged: Any = mlflow.pyfunc.log_model(
            name=NAME,
            python_model=str(code),
            artifacts={"prompt_set": str(copy)},
            signature=signature,
            pip_requirements=[f"flawline=={flawline.__version__}"],
            metadata={"sha256": sha256, "backbone": card["backbone"]},
            tags={"sha256": sha256},
        )
    return logged.model_uri, logged.model_id


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    outputs = [("double", "score"), ("boolean", "is_anomalous"), ("string", "defect"), ("string", "map_png")]
    return ModelSignature(
        inputs=Schema([ColSpec("binary", "image")]),
        outputs=Schema([ColSpec(kind, name) for kind, name in outputs]),
        params=ParamSchema([ParamSpec("threshold", DataType.double, -1.0)]),
    )


class _quiet:
    """MLflow advises type hints and input examples at every model; the signature is given here instead."""

    def __enter__(self) -> None:
        self.level = logging.getLogger("mlflow").level
        logging.getLogger("mlflow").setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mlflow").setLevel(self.level)
