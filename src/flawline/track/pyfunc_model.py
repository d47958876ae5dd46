"""The model in the registry, as code: it holds a prompt set and nothing else.

MLflow copies this file into the model and runs it when the model is loaded. The serving environment must
have flawline installed (pip requirement `flawline`): the model's own copy of the package, by code_paths,
would shadow the installed one and could not be upgraded with it. Backbone weights are not in the model
either; they are found through FLAWLINE_WORKSPACE or from the working directory.
"""

import base64
import io
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from flawline.data.images import load_rgb
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

CARD_THRESHOLD = -1.0  # NaN would say it better, but has no place in JSON


class Scoring:
    """Image bytes in; score, verdict, defect type and heat map out.

    Apart from PythonModel, which would ask for type hints on a `predict` of its own and derive a signature
    from them; the explicit one says more (the column's name, the parameter).
    """

    def load_context(self, context: Any) -> None:
        """Open the prompt set that the model carries.

        Raises:
            FlawlineError: its files are not those that were registered; no backbone weights here, or not those the
                prompts were tuned on.
        """
        from pathlib import Path

        from flawline.detector import Detector

        folder = Path(context.artifacts["prompt_set"])
        _require_sound(folder)
        self.detector = Detector.open(folder, _workspace_root())

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score images.

        Args:
            context: not used.
            model_input: data frame with a column `image`, each the bytes of an image file.
            params: `threshold`; below 0 means the prompt set's own.

        Returns:
            Data frame: score float, is_anomalous bool, defect str (empty where none is named), map_png str
            (base64 of an 8-bit grey PNG, 255 = most anomalous; bytes could not travel in the server's JSON).
        """
        threshold = float((params or {}).get("threshold", CARD_THRESHOLD))
        rows = []
        for result in self.detector.score([_open(row, raw) for row, raw in enumerate(model_input["image"])]):
            anomalous = result.is_anomalous if threshold < 0 else result.score > threshold
            rows.append((float(result.score), bool(anomalous), result.defect or "", _png(result.map)))
        return pd.DataFrame(rows, columns=["score", "is_anomalous", "defect", "map_png"])


class PromptSetModel(Scoring, PythonModel):
    """The scoring as MLflow wants it."""


def _require_sound(folder: Any) -> None:
    """A flipped byte among the learned numbers would load without a word."""
    from mlflow.models import Model

    from flawline.files import sha256_folder

    place = folder.parent.parent  # the model's own folder, when MLflow loads it
    if not (place / "MLmodel").is_file():
        return
    sha256 = (Model.load(str(place)).metadata or {}).get("sha256")
    if sha256 and sha256 != sha256_folder(folder):
        raise FlawlineError(
            "the model is damaged: its prompt set is not the one that was registered",
            "do not serve it; flawline rollback, or retrain with --force",
        )


def _workspace_root() -> Any:
    try:
        return Workspace.find().root
    except FlawlineError:
        return None


def _open(row: int, raw: Any) -> Any:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    try:
        return load_rgb(io.BytesIO(raw))
    except FlawlineError as error:
        # Told as the caller's fault, so that the scoring server answers 400.
        raise MlflowException(f"image {row}: {error}", error_code=INVALID_PARAMETER_VALUE) from error


def _png(heat: np.ndarray) -> str:
    from PIL import Image

    levels = np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels, mode="L").save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


mlflow.models.set_model(PromptSetModel())
