"""Serving follows the alias on a real MLflow server, and never serves what is damaged there."""

import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import MlflowServer

from aftermath import assert_sound
from flawline.detector import Detector
from flawline.files import sha256_folder
from flawline.gate import decisions
from flawline.settings import Settings
from flawline.track import registry
from flawline.workspace import Workspace

Plant = Callable[[str], tuple[Workspace, Settings]]
pytestmark = pytest.mark.slow
LACKS = ("dvc", "data", "backbone")  # it only serves: no line, no data, random weights


def _conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "registry_conftest", Path(__file__).with_name("conftest.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


flawline = _conftest().flawline


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "part.png")
    return tmp_path / "part.png"


def score(workspace: Workspace, uri: str, picture: Path) -> tuple[float, str]:
    """What `flawline score` says with the champion, and its standard error."""
    done = flawline(workspace, uri, "score", str(picture), "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    [row] = json.loads(done.stdout)
    return float(row["score"]), done.stderr


def expected(workspace: Workspace, settings: Settings, version: registry.Version, picture: Path) -> float:
    """What that version says, asked directly."""
    detector = Detector.open(registry.resolve(workspace, settings, version.version), workspace.root)
    return float(detector.score([Image.open(picture)])[0].score)


def on_server(server: MlflowServer, model: str, version: registry.Version) -> Path:
    """The server's own files of a version."""
    from mlflow.tracking import MlflowClient

    source = str(MlflowClient(server.uri).get_model_version(model, version.version).source)
    identity = source.removeprefix("models:/")
    assert server.cwd is not None and identity != source
    folders = (server.cwd / "artifacts").rglob("prompt_set")
    [folder] = [folder for folder in folders if identity in folder.parts]
    assert sha256_folder(folder) == version.sha256
    return folder


def flip(folder: Path) -> None:
    path = folder / "prompts.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 64
    path.write_bytes(bytes(raw))


def cut(folder: Path) -> None:
    path = folder / "prompts.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def strip(folder: Path) -> None:
    (folder / "card.json").unlink()


def test_score_follows_the_alias_and_keeps_the_last_good_champion(
    plant: Plant, versions: list[registry.Version], mlflow_server: MlflowServer, picture: Path
) -> None:
    training, settings = Workspace(plant("judging")[0].root), plant("serving")[1]
    serving = Workspace(training.root.parent / "serving")
    first, second, third = versions
    for version in (first, second):
        registry.promote(training, settings, version)
        told, errors = score(serving, mlflow_server.uri, picture)
        assert told == pytest.approx(expected(training, settings, version, picture), abs=1e-6)
        assert "warning" not in errors

    whole = mlflow_server.cwd / "kept"
    stored = on_server(mlflow_server, settings.track.model, third)
    shutil.copytree(stored, whole)
    registry.promote(training, settings, third)
    last = expected(training, settings, second, picture)
    for damage in (flip, cut, strip):
        damage(stored)
        told, errors = score(serving, mlflow_server.uri, picture)
        assert told == pytest.approx(last, abs=1e-6)
        [line] = [line for line in errors.splitlines() if line.startswith("warning: ")]
        assert "the last good champion, version 2, goes on serving: version 3" in line
        shutil.rmtree(stored)
        shutil.copytree(whole, stored)
    shutil.rmtree(whole)
    told, errors = score(serving, mlflow_server.uri, picture)
    assert told != pytest.approx(last, abs=1e-6) and "warning" not in errors, "mended, it serves"
    assert_sound(serving.root, besides=LACKS)


def test_a_machine_that_never_served_refuses_a_damaged_champion(
    plant: Plant, versions: list[registry.Version], mlflow_server: MlflowServer, picture: Path
) -> None:
    serving, settings = plant("serving")
    registry.promote(serving, settings, versions[0])
    flip(on_server(mlflow_server, settings.track.model, versions[0]))
    done = flawline(serving, mlflow_server.uri, "score", str(picture))
    assert done.returncode == 2 and done.stderr.startswith("error: version 1 is damaged")
    assert len(done.stderr.strip().splitlines()) == 1


def test_rollback_several_steps_on_the_server(
    plant: Plant, versions: list[registry.Version], mlflow_server: MlflowServer
) -> None:
    workspace, settings = plant("judging")
    for version in versions:
        registry.promote(workspace, settings, version)
        decisions.append(workspace, decisions.by_hand("promote", version.described(), None, "…"))
    done = flawline(workspace, mlflow_server.uri, "rollback", "--to", "1")
    assert done.returncode == 0 and "champion is version 1" in done.stdout, done.stderr
    held = {alias: v.version for v in registry.versions(workspace, settings) for alias in v.aliases}
    assert held == {"champion": "1", "previous_champion": "3"}
    assert decisions.history(workspace)[-1]["verdict"] == "rollback"
    shown = flawline(workspace, mlflow_server.uri, "history")
    assert "rollback" in shown.stdout and "champion" in shown.stdout, shown.stderr


def test_the_pyfunc_follows_the_alias_and_refuses_a_damaged_model(
    plant: Plant,
    versions: list[registry.Version],
    mlflow_server: MlflowServer,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow
    from flawline.errors import FlawlineError

    workspace, settings = plant("judging")
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(workspace.root))
    uri = f"models:/{settings.track.model}@champion"
    stream = io.BytesIO(picture.read_bytes())
    asked = pd.DataFrame({"image": [stream.getvalue()]})
    for version in versions[:2]:
        registry.promote(workspace, settings, version)
        mlflow.set_tracking_uri(mlflow_server.uri)
        found = mlflow.pyfunc.load_model(uri).predict(asked)
        wanted = expected(workspace, settings, version, picture)
        assert found["score"].tolist() == pytest.approx([wanted], abs=1e-6)
    flip(on_server(mlflow_server, settings.track.model, versions[1]))
    with pytest.raises(FlawlineError, match="the model is damaged"):
        mlflow.pyfunc.load_model(uri)
