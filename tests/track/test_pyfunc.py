"""The registered model: loaded from the registry, from elsewhere, as the scoring server loads it."""

import base64
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline import detector
from flawline.detector import Result
from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace


class Brightness:
    """A detector whose score is the picture's brightness: what the model must pass on is then known."""

    opened: list[tuple[Path, Path | None]] = []  # noqa: RUF012

    @classmethod
    def open(cls, folder: Path, workspace_root: Path | None = None) -> "Brightness":
        assert sorted(p.name for p in folder.iterdir()) == ["card.json", "prompts.safetensors"]
        cls.opened.append((folder, workspace_root))
        return cls()

    def score(self, images: list[Image.Image]) -> list[Result]:
        values = [float(np.asarray(image).mean() / 255) for image in images]
        heat = np.array([[0.0, 0.5], [1.0, 2.0]], np.float32)
        return [Result(v, 0.5, v > 0.5, "anomaly" if v > 0.5 else "good", heat) for v in values]


def png(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 4), grey).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def model(workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """The champion, loaded as `mlflow models serve` does, from another directory."""
    import mlflow

    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    version = registry.register(
        workspace, settings, workspace.prompts(Cell("learned", "castings", 0)), run_id
    )
    registry.promote(workspace, settings, version)
    monkeypatch.setattr(detector, "Detector", Brightness)
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(workspace.root))
    monkeypatch.chdir(tmp_path)
    Brightness.opened.clear()
    return mlflow.pyfunc.load_model("models:/small@champion")


def test_bytes_in_verdict_and_map_out(model, workspace: Workspace) -> None:  # type: ignore[no-untyped-def]
    found = model.predict(pd.DataFrame({"image": [png(51), png(204)]}))
    assert found["score"].tolist() == pytest.approx([0.2, 0.8])
    assert found["is_anomalous"].tolist() == [False, True]
    assert found["defect"].tolist() == ["good", "anomaly"]
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["map_png"][0]))))
    assert heat.tolist() == [[0, 128], [255, 255]]
    [(_, root)] = Brightness.opened
    assert root == workspace.root


def test_the_threshold_can_be_given(model) -> None:  # type: ignore[no-untyped-def]
    for threshold, expected in ((0.9, False), (0.1, True), (0.0, True), (-1.0, True)):
        found = model.predict(pd.DataFrame({"image": [png(204)]}), params={"threshold": threshold})
        assert found["is_anomalous"].tolist() == [expected], threshold


def test_what_is_no_image_is_the_callers_fault(model) -> None:  # type: ignore[no-untyped-def]
    from mlflow.exceptions import MlflowException

    for raw in (b"", b"hello", png(9)[:30]):
        with pytest.raises(MlflowException, match="image 1") as caught:
            model.predict(pd.DataFrame({"image": [png(9), raw]}))
        assert caught.value.get_http_status_code() == 400


def test_the_signature_and_the_requirement(model) -> None:  # type: ignore[no-untyped-def]
    signature = model.metadata.signature
    assert signature.inputs.to_dict() == [{"type": "binary", "name": "image", "required": True}]
    assert signature.outputs.input_names() == ["score", "is_anomalous", "defect", "map_png"]
    assert [(p.name, p.default) for p in signature.params.params] == [("threshold", -1.0)]
    assert model.metadata.metadata["backbone"]["name"] == "tiny"


def test_the_server_answers_with_json(model) -> None:  # type: ignore[no-untyped-def]
    """The scoring server's own parsing and writing, without its socket."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    text = base64.b64encode(png(204)).decode()
    client = TestClient(init(model))
    asked = {"dataframe_split": {"columns": ["image"], "data": [[text]]}, "params": {"threshold": 0.9}}
    answer = client.post("/invocations", json=asked)
    [row] = answer.json()["predictions"]
    assert answer.status_code == 200 and row["score"] == pytest.approx(0.8) and row["is_anomalous"] is False
    wrong = {"dataframe_split": {"columns": ["picture"], "data": [[text]]}}
    assert client.post("/invocations", json=wrong).status_code == 400
    broken = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(b"x").decode()]]}}
    assert client.post("/invocations", json=broken).status_code == 400


def test_the_model_holds_the_prompt_set_and_no_pickle(model, workspace: Workspace) -> None:  # type: ignore[no-untyped-def]
    [folder] = (workspace.state / "mlflow" / "artifacts" / "models").glob("*/artifacts")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"pyfunc_model.py", "artifacts/prompt_set/prompts.safetensors", "MLmodel"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".bin", ".pt"))]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 50_000
    assert "flawline==" in (folder / "requirements.txt").read_text()


def test_without_a_workspace_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real detector, with a prompt set but no weights anywhere."""
    monkeypatch.chdir(tmp_path)
    assert "FLAWLINE_WORKSPACE" not in os.environ
    import small_line
    from flawline.track.pyfunc_model import PromptSetModel

    folder = small_line.write_prompt_set(tmp_path / "p", "learned", 0, 0.9)
    context = type("Context", (), {"artifacts": {"prompt_set": str(folder)}})()
    with pytest.raises(FlawlineError):
        PromptSetModel().load_context(context)
