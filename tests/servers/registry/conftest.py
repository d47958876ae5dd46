"""Workspaces whose registry is a real MLflow server, with prompt sets that really score."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import MlflowServer, clean_environment

from flawline.settings import Settings, load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "flows"))


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A name that no other test's experiment and model has on the shared server."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name).strip("-")[:60]


@pytest.fixture
def plant(
    tmp_path: Path, mlflow_server: MlflowServer, model: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Workspace, Settings]]:
    """`plant("serving")` makes a workspace with a small backbone of random weights; all share the registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)

    def make(name: str) -> tuple[Workspace, Settings]:
        root = tmp_path / name
        root.mkdir()
        shutil.copyfile(ROOT / "vocabulary.yaml", root / "vocabulary.yaml")
        text = (ROOT / "params.yaml").read_text(encoding="utf-8")
        text = text.replace("  model: flawline  ", f"  model: {model}  ")
        (root / "params.yaml").write_text(text.replace("experiment: flawline", f"experiment: {model}"))
        settings = load_settings(root / "params.yaml")
        assert (settings.track.model, settings.track.experiment) == (model, model)
        return Workspace(root), settings

    return make


@pytest.fixture
def versions(plant: Callable[[str], tuple[Workspace, Settings]]) -> list[registry.Version]:
    """Three human_free prompt sets, registered by a workspace of their own; none serves."""
    workspace, settings = plant("training")
    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    found = []
    for seed in (0, 1, 2):
        folder = prompt_set(workspace, settings, seed)
        found.append(registry.register(workspace, settings, folder, run_id))
    return found


def prompt_set(workspace: Workspace, settings: Settings, seed: int) -> Path:
    """An untrained human_free prompt set."""
    from flawline.clip.backbone import load_backbone
    from flawline.clip.image_path import resolve_paths
    from flawline.prompts import method_class, method_options
    from flawline.prompts.shared.prompt_set import save_prompt_set
    from flawline.settings import BackboneSettings

    small = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=1)
    backbone = load_backbone(small, workspace.root)
    options = method_options("human_free", settings.methods["human_free"])
    method = method_class("human_free")(backbone, options, seed)
    path = resolve_paths(backbone, settings.features.paths)[options.image_path]
    card = {
        "method": "human_free", "train_set": "castings", "seed": seed, "backbone": backbone.card(),
        "options": options.model_dump(), "image_paths": {"main": path.model_dump()},
        "threshold": {"value": 0.5, "quantile": 0.95, "from": "good training images"},
    }  # fmt: skip
    folder = workspace.prompts(Cell("human_free", "castings", seed))
    save_prompt_set(folder, method, card)
    return folder


def flawline(workspace: Workspace, uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flawline", *arguments],
        cwd=workspace.root,
        env={
            **clean_environment(),
            "MLFLOW_TRACKING_URI": uri,
            "FLAWLINE_WORKSPACE": str(workspace.root),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
