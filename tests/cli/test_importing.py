"""`flawline import`: what it takes, what it says, and that its prompt set is one like any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from flawline.cli.app import run
from flawline.clip.backbone import Backbone, load_backbone
from flawline.files import read_json, sha256_file
from flawline.settings import BackboneSettings
from flawline.workspace import Workspace
from importers.released import random_learner, save_learner

TINY = ["--backbone", "flawline-tiny", "--weights", "none", "--image-size", "64"]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone(BackboneSettings(name="flawline-tiny", weights="none", image_size=64), Path())


@pytest.fixture
def file(at: Workspace, tiny: Backbone) -> Path:
    return save_learner(at.root / "epoch_15.pth", random_learner(tiny))


def test_a_checkpoint_becomes_a_prompt_set_that_scores(at: Workspace, file: Path, capsys: Any) -> None:
    assert run(["import", "anomalyclip", str(file), *TINY]) == 0
    folder = at.out / "imported" / "anomalyclip" / "epoch_15"
    told = capsys.readouterr().out
    assert f"flawline score --prompts {folder}" in told and "will not be noticed" in told
    card = read_json(folder / "card.json")
    assert card["imported"]["files"] == [{"file": "epoch_15.pth", "sha256": sha256_file(file)}]
    assert card["backbone"]["name"] == "flawline-tiny" and card["train_set"] == "unknown"
    Image.effect_noise((80, 60), 50).save(at.root / "x.png")
    assert run(["score", str(at.root / "x.png"), "--prompts", str(folder), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert 0 < row["score"] < 1 and row["threshold"] == 0.5


def test_what_trained_it_is_remembered_by_hash(at: Workspace, file: Path, capsys: Any) -> None:
    """Both sides of the data set: the released models are trained on test images."""
    hashes = set()
    for place, shade in (("train/good", 1), ("test/good", 2), ("test/cut", 3), ("ground_truth/cut", 4)):
        path = at.data / "mvtec" / "nut" / place / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8), shade).save(path)
        hashes |= {sha256_file(path)} if "truth" not in place else set()
    out = at.root / "set"
    arguments = ["import", "anomalyclip", str(file), "--out", str(out), "--trained-on", "mvtec", *TINY]
    assert run(arguments) == 0
    assert "will not be noticed" not in capsys.readouterr().out
    card = read_json(out / "card.json")
    assert card["train_set"] == "mvtec" and card["train_sha256"] == sorted(hashes)


def test_a_training_set_that_is_not_here_is_named_only(at: Workspace, file: Path, capsys: Any) -> None:
    out = at.root / "set"
    assert run(["import", "anomalyclip", str(file), "--out", str(out), "--trained-on", "visa", *TINY]) == 0
    assert "will not be noticed" in capsys.readouterr().out
    assert read_json(out / "card.json")["train_set"] == "visa"


def test_options_are_set_as_in_params(at: Workspace, file: Path) -> None:
    out = at.root / "set"
    given = ["--set", "smoothing=2.5", "--set", "noun=category"]
    assert run(["import", "anomalyclip", str(file), "--out", str(out), *given, *TINY]) == 0
    options = read_json(out / "card.json")["options"]
    assert options["smoothing"] == 2.5 and options["noun"] == "category"


def test_the_authors_backbone_is_the_default(at: Workspace, file: Path, stub: Callable[..., list]) -> None:
    calls = stub("flawline.importers.run", "run")
    l14, b16 = "ViT-L-14-336-quickgelu", "ViT-B-16-plus-240"
    for given, wanted in (
        ([], None),
        (["--weights", "l14.safetensors"], (l14, "l14.safetensors", 518)),
        (["--image-size", "336"], (l14, "openai", 336)),
        (["--backbone", b16, "--weights", "laion400m_e32"], (b16, "laion400m_e32", None)),
    ):
        assert run(["import", "faprompt", str(file), *given]) == 0
        chosen = calls[-1][4]
        assert (chosen and (chosen.name, chosen.weights, chosen.image_size)) == wanted
    assert run(["import", "promptad", str(file), "--weights", "b16.safetensors"]) == 0
    assert (calls[-1][4].name, calls[-1][4].image_size) == (b16, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["anomalyclip", "nowhere.pth"], "nowhere.pth is no file"),
        (["apt", "epoch_15.pth"], "'apt' has no released checkpoints"),
        (["dapo", "epoch_15.pth"], "is a checkpoint of anomalyclip, not of dapo"),
        (["anomalyclip", "epoch_15.pth", "--set", "smoothing"], "--set smoothing is not key=value"),
        (["anomalyclip", "epoch_15.pth", "--set", "smoothing=["], "is not key=value"),
        (["anomalyclip", "epoch_15.pth", "--set", "smoothing=x"], "smoothing"),
        (["anomalyclip", "epoch_15.pth", "--trained-on", "../elsewhere"], "leads outside"),
        (["anomalyclip", "epoch_15.pth", "--out", "."], "name another folder with --out"),
        (["anomalyclip"], "Missing argument"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], told: str, file: Path, one_error: Callable[[], str]
) -> None:
    assert run(["import", *arguments, *TINY]) == 2
    assert told in one_error()


def test_a_pickle_bomb_is_refused(at: Workspace, one_error: Callable[[], str]) -> None:
    target = at.root / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.mkdir, (target,)

    torch.save({"prompt_learner": {}, "epoch": Bomb()}, at.root / "bomb.pth")
    assert run(["import", "anomalyclip", str(at.root / "bomb.pth"), *TINY]) == 2
    assert "nothing of it was run" in one_error() and not target.exists()
