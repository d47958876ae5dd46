"""From a checkpoint to a folder: what the card says, what is refused before anything is written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawline.clip.backbone import Backbone
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_file, sha256_folder
from flawline.importers import run
from flawline.settings import BackboneSettings

from .conftest import settings_of
from .released import golden_dapo, golden_learner, random_learner, save_dapo, save_learner, save_promptad

TINY = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=3)


@pytest.fixture
def file(tiny: Backbone, tmp_path: Path) -> Path:
    return save_learner(tmp_path / "epoch_15.pth", random_learner(tiny))


def test_the_card_says_where_it_came_from(file: Path, tiny: Backbone, tmp_path: Path) -> None:
    folder = run.run(
        "anomalyclip", [file], tmp_path / "set", tmp_path, TINY, None, ("mvtec", ["b", "a", "a"])
    )
    card = read_json(folder / "card.json")
    assert card["imported"] == {
        "files": [{"file": "epoch_15.pth", "sha256": sha256_file(file)}],
        "layout": "zqhang/AnomalyCLIP at 45ed4dd",
        "unused": [
            f"prompt_learner.compound_prompt_projections.{k}.{w}"
            for k in range(3)
            for w in ("bias", "weight")
        ],
    }
    assert card["train_set"] == "mvtec" and card["train_sha256"] == ["a", "b"]
    assert card["backbone"] == tiny.card() and card["stages"] == []
    assert card["options"]["deep_half"] and card["options"]["temperature"] == 0.07
    assert card["learned"] == {"parameters": (2 * 12 + 3 * 4) * tiny.text_width}
    assert card["words"]["defective"] == ["[V]×12 damaged {noun}."]
    assert card["threshold"]["quantile"] is None


def test_it_loads_and_scores_pictures(file: Path, tmp_path: Path) -> None:
    detector = Detector.open(run.run("anomalyclip", [file], tmp_path / "set", tmp_path, TINY), tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    results = detector.score([Image.fromarray(noise), Image.new("L", (64, 64))])
    assert [0 <= result.score <= 1 and result.map.shape == (64, 64) for result in results] == [True, True]
    assert results[0].score != results[1].score


def test_an_earlier_import_is_replaced_by_the_same_bytes(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first, again = (sha256_folder(run.run("anomalyclip", [file], out, tmp_path, TINY)) for _ in range(2))
    assert first == again
    card = (out / "card.json").read_text(encoding="utf-8")
    (out / "card.json").write_text(card.replace('"imported"', '"tuned"'), encoding="utf-8")
    with pytest.raises(FlawlineError, match="is there already and no earlier import"):
        run.run("anomalyclip", [file], out, tmp_path, TINY)


def test_a_folder_with_other_things_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(FlawlineError, match="name another folder"):
        run.run("anomalyclip", [file], tmp_path / "mine", tmp_path, TINY)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"


def test_a_checkpoint_of_another_method_is_named(l14: Backbone, tmp_path: Path) -> None:
    """Before any backbone is loaded: none of these settings exists."""
    made = {
        "anomalyclip": save_learner(tmp_path / "a.pth", golden_learner(l14, "anomalyclip_released")),
        "faprompt": save_learner(tmp_path / "f.pth", golden_learner(l14, "faprompt_released")),
        "dapo": save_dapo(tmp_path / "d.pth", golden_dapo(l14, "dapo_released")),
        "promptad": save_promptad(tmp_path, "pill")[0],
    }
    nowhere = BackboneSettings(name="nothing", weights="none")
    for asked in made:
        for given in made:
            told = f"of {given}, not of {asked}" if asked != given else "no model 'nothing'"
            with pytest.raises(FlawlineError, match=told):
                run.run(asked, [made[given]], tmp_path / "set", tmp_path, nowhere)
    assert not (tmp_path / "set").exists()


def test_methods_without_released_checkpoints_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FlawlineError, match=r"'apt' has no released.*choose from anomalyclip, dapo, faprompt, promptad"
    ):
        run.run("apt", [file], tmp_path / "set", tmp_path, TINY)


def test_one_file_where_one_is_a_model(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match="imported from one file, not 2"):
        run.run("anomalyclip", [file, file], tmp_path / "set", tmp_path, TINY)


def test_a_backbone_of_another_width_is_told_by_shapes(
    file: Path, home: Path, tiny: Backbone, tmp_path: Path
) -> None:
    assert tiny.text_width == 128  # as the golden one: only the words tell them apart
    with pytest.raises(FlawlineError, match="its words are not those of golden-l14"):
        run.run("anomalyclip", [file], tmp_path / "set", home, settings_of("l14"))
    wide = BackboneSettings(name="ViT-S-32-alt", weights="none")
    with pytest.raises(
        FlawlineError, match=r"ctx_pos: expected shape \[1, 1, any, 256\], found \[1, 1, 12, 128\]"
    ):
        run.run("anomalyclip", [file], tmp_path / "set", home, wide)
    assert not (tmp_path / "set").exists()


def test_options_can_be_others_but_not_against_the_checkpoint(file: Path, tmp_path: Path) -> None:
    folder = run.run("anomalyclip", [file], tmp_path / "a", tmp_path, TINY, {"smoothing": 2.0})
    assert read_json(folder / "card.json")["options"]["smoothing"] == 2.0
    for overrides, told in (
        ({"smothing": 2.0}, r"methods\.anomalyclip\.smothing"),
        ({"context_tokens": 5}, r"contexts\.good of shape \[5, 128\], the checkpoint \[12, 128\]"),
        ({"deep_depth": 3}, r"has no deep\.2"),
    ):
        with pytest.raises(FlawlineError, match=told):
            run.run("anomalyclip", [file], tmp_path / "b", tmp_path, TINY, overrides)
    assert not (tmp_path / "b").exists()
