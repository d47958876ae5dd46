"""Swapped labels, in a retraining that is real: rendered pictures, the embedded backbone, the stages themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermath import assert_sound
from flawline.determinism import derived_seed
from flawline.files import sha256_file, sha256_folder
from flawline.gate import decisions
from flawline.render.samples import SETS, draw_flawed, draw_good
from flawline.settings import Settings, load_settings
from flawline.stages import checks, compare, evaluate, features, manifest, synthesize, tune
from flawline.track import registry
from flawline.track.log import LoggedRun, cells
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace
from flows.judge import Judgement, judge
from flows.promote import promote

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TRAIN = {"castings": {"bracket": (), "cast_plate": ()}}
TEST = {"fabrics": {"leather": ("scratch", "wrinkle", "hole"), "mesh": ("hole", "rust")}}
GOOD, BAD = 12, 6
LACKS = ("dvc", "data")  # the stages run in this process here, on two data sets
GATE = {"margin": 0.1, "bootstrap": 300, "false_alarm_margin": 0.5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after a sound retraining, with a champion."""
    from dvc.api import DVCFileSystem

    root = tmp_path_factory.mktemp("plant")
    for name in ("params.yaml", "vocabulary.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    weights = root / "backbones" / "flawline-tiny.safetensors"
    weights.parent.mkdir()
    DVCFileSystem(str(ROOT)).get_file("backbones/flawline-tiny.safetensors", str(weights))
    for dataset, categories in {**TRAIN, **TEST}.items():
        for category, defects in categories.items():
            draw(root / "data" / dataset / category, SETS[dataset][category], defects)
    workspace = Workspace(root)
    found = retrain(workspace)
    if found.verdict != "promote":  # so few pictures may not be enough to show that it is better
        assert found.challenger is not None
        promote(workspace, settings_of(workspace), found.challenger.version)
    return root


@pytest.fixture
def plant(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy that a test may poison. MLflow's paths are absolute, so the registry is still the first one's."""
    root = tmp_path / "plant"
    shutil.copytree(trained, root, ignore=shutil.ignore_patterns("mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained / '.state' / 'mlflow' / 'mlflow.db'}")
    return Workspace(root)


def draw(folder: Path, look, defects) -> None:  # type: ignore[no-untyped-def]
    for part in ("train", "test"):
        for k in range(GOOD):
            seed = derived_seed(folder.name, part, "good", k)
            save(folder / part / "good" / f"{k:03d}.png", draw_good(look, seed).picture)
    for defect in defects:
        for k in range(BAD):
            seed = derived_seed(folder.name, "test", defect, k)
            save(folder / "test" / defect / f"{k:03d}.png", draw_flawed(look, defect, seed)[0])


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(path)


def settings_of(workspace: Workspace) -> Settings:
    settings = load_settings(workspace.params)
    human_free = settings.methods["human_free"] | {"epochs": 6}
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"train": [*TRAIN], "test": [*TEST]}),
            "methods": settings.methods | {"human_free": human_free},
            "tune": settings.tune.model_copy(update={"methods": ["words", "human_free"]}),
            "evaluate": settings.evaluate.model_copy(update={"bootstrap": 100, "overlays": 0}),
            "gate": settings.gate.model_copy(update=GATE),
        }
    )


def retrain(workspace: Workspace) -> Judgement:
    """Every stage in this process, in the order of dvc.yaml, and then the gate."""
    settings = settings_of(workspace)
    shutil.rmtree(workspace.out, ignore_errors=True)
    manifest.run(workspace, settings)
    checks.run(workspace, settings)
    synthesize.run(workspace, settings, "castings")
    features.run(workspace, settings, "train", "castings")
    features.run(workspace, settings, "test", "fabrics")
    for cell in cells(settings):
        tune.run(workspace, settings, cell)
        evaluate.run(workspace, settings, cell, "fabrics")
    compare.run(workspace, settings)
    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    children = {cell.name: run_id for cell in cells(settings)}
    return judge(workspace, settings, LoggedRun(run_id, "r", True, children))


def poison_training(workspace: Workspace) -> None:
    """What trains as good is defective."""
    for category in TRAIN["castings"]:
        look = SETS["castings"][category]
        for k, path in enumerate(
            sorted((workspace.data / "castings" / category / "train" / "good").iterdir())
        ):
            save(
                path,
                draw_flawed(look, look.defects[k % len(look.defects)], derived_seed("poison", category, k))[
                    0
                ],
            )


def poison_test(workspace: Workspace) -> None:
    """What tests as good is defective, and the other way round."""
    for category, defects in TEST["fabrics"].items():
        folder = workspace.data / "fabrics" / category / "test"
        (folder / "good").rename(folder / "was_good")
        (folder / "good").mkdir()
        for defect in defects:
            for path in sorted((folder / defect).iterdir()):
                path.rename(folder / "good" / f"{defect}-{path.name}")
        for k, path in enumerate(sorted((folder / "was_good").iterdir())):
            path.rename(folder / defects[k % len(defects)] / path.name)
        (folder / "was_good").rmdir()


def served(workspace: Workspace) -> registry.Version | None:
    return registry.by_alias(workspace, settings_of(workspace), registry.CHAMPION)


@pytest.mark.parametrize(
    "poisons", [[poison_training], [poison_training, poison_test]], ids=["train", "both"]
)
def test_swapped_labels_do_not_promote(plant: Workspace, trained: Path, poisons: list) -> None:  # type: ignore[type-arg]
    before = served(plant)
    assert before is not None
    for poison in poisons:
        poison(plant)
    found = retrain(plant)
    assert found.challenger is not None and found.challenger.sha256 != before.sha256
    assert found.verdict == "stay", found.reason
    assert served(plant) == before
    record = decisions.history(plant)[-1]
    assert record["verdict"] == "stay" and record["tests"]
    if poison_test in poisons:
        assert "are its labels right" in found.reason
        assert_sound(plant.root, besides=LACKS)
        shutil.rmtree(plant.data)
        shutil.copytree(trained / "data", plant.data)
        retrain(plant)
        assert sha256_file(plant.metrics) == sha256_file(trained / "results" / "metrics.csv")
        assert served(plant) == before


def test_swapped_test_labels_alone_change_no_prompts(plant: Workspace) -> None:
    before = served(plant)
    poison_test(plant)
    found = retrain(plant)
    assert found.verdict in ("stay", "unchanged") and served(plant) == before
    assert before is not None and found.challenger is not None
    same = {sha256_folder(plant.prompts(Cell("human_free", "castings", seed))) for seed in (0, 1, 2)}
    assert before.sha256 in same, "test images train nothing"
