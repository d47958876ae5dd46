import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline.errors import FlawlineError
from flawline.evaluate import scoring
from flawline.evaluate.absent import NOWHERE
from flawline.evaluate.measure import NO_MASK
from flawline.evaluate.scoring import HeldScores
from flawline.evaluate.tables import read_metrics
from flawline.files import sha256_file, write_json, write_parquet
from flawline.settings import load_settings
from flawline.stages import evaluate
from flawline.workspace import Cell

CELL = Cell("words", "castings", 0)
CARD = {
    "train_set": "castings",
    "train_sha256": ["0" * 64],
    "threshold": {"value": 2.0, "quantile": 0.95, "from": "good training images"},
}


@pytest.fixture
def line(workspace, made, monkeypatch):
    """Data, features and a prompt set on disk; only the scores are made up, so that this stage is alone."""
    masks, hashes = [], []
    for number, row in made.index.iterrows():
        file = workspace.data / row["image"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 40, 3), number, np.uint8)).save(file)
        hashes.append(sha256_file(file))
        masks.append(None)
        if made.masks[number] is not None:
            masks[-1] = f"demo/{row['category']}/ground_truth/{row['defect']}/{number:03d}_mask.png"
            file = workspace.data / masks[-1]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made.masks[number].astype(np.uint8) * 255).save(file)
    index = made.index.assign(row=range(len(made.index)), mask=masks, sha256=hashes, synthetic=False)
    write_parquet(workspace.features("test", "demo") / "index.parquet", index)
    write_json(workspace.prompts(CELL) / "card.json", CARD)
    write_json(workspace.features("test", "demo") / "card.json", {"grid": 3})
    write_parquet(workspace.manifest, index.assign(dataset="demo", split="test", problem=None, group=None))
    asked = []

    def scorer(*given):
        asked.append(given)
        return HeldScores(made.scores, made.maps)

    monkeypatch.setattr(scoring, "FeatureScorer", scorer)
    return workspace, load_settings(workspace.params), index, asked


def test_writes_the_cell(line):
    workspace, settings, index, called = line
    evaluate.run(workspace, settings, CELL, "demo")
    folder = workspace.evaluation(CELL, "demo")
    asked = sorted(set(index["defect"]) - {"good"})
    metrics = read_metrics(folder / "metrics.csv")
    assert set(metrics["metric"]) >= {"image_auroc", "pixel_auroc", "aupro", "aupro_200", "false_alarm_rate"}
    assert set(json.loads((folder / "provenance.json").read_text())) >= {"prompts_sha256", "features_sha256"}
    assert set(metrics[["method", "seed", "train_set", "test_set"]].iloc[0]) == {
        "words",
        "0",
        "castings",
        "demo",
    }
    assert called == [
        (workspace, settings, workspace.prompts(CELL), workspace.features("test", "demo"), asked)
    ]
    assert len(list((folder / "overlays").glob("*.png"))) == 3 * settings.evaluate.overlays


def test_refuses_an_image_that_trained_the_prompts(line):
    workspace, settings, index, called = line
    write_json(
        workspace.prompts(CELL) / "card.json", {**CARD, "train_sha256": sorted(index["sha256"][[5, 2]])}
    )
    with pytest.raises(FlawlineError, match=r"bolts/test/crack/002\.png and 1 more of 'demo' trained"):
        evaluate.run(workspace, settings, CELL, "demo")
    assert called == [] and not workspace.evaluation(CELL, "demo").exists()


def test_refuses_a_card_that_does_not_say(line):
    workspace, settings, _, _ = line
    write_json(workspace.prompts(CELL) / "card.json", {"method": "words"})
    with pytest.raises(FlawlineError, match="train_sha256"):
        evaluate.run(workspace, settings, CELL, "demo")


def test_a_set_without_masks_has_image_metrics_only(line):
    workspace, settings, index, _ = line
    bare = index.assign(mask=pd.Series([None] * len(index), dtype=object))
    write_parquet(workspace.features("test", "demo") / "index.parquet", bare)
    evaluate.run(workspace, settings, CELL, "demo")
    metrics = read_metrics(workspace.evaluation(CELL, "demo") / "metrics.csv")
    image = {"image_auroc", "image_ap", "image_f1_max", "false_alarm_rate", "detection_rate", "accuracy"}
    assert set(metrics["metric"]) == image
    absent = json.loads((workspace.evaluation(CELL, "demo") / "absent.json").read_text())
    assert {row["reason"] for row in absent["absent"]} == {NO_MASK, NOWHERE}


@pytest.mark.parametrize("what", ["prompts", "features"])
def test_a_missing_input_is_named(line, what):
    workspace, settings, _, _ = line
    gone = (
        workspace.prompts(CELL) / "card.json"
        if what == "prompts"
        else workspace.features("test", "demo") / "index.parquet"
    )
    gone.unlink()
    with pytest.raises(FlawlineError, match=gone.name):
        evaluate.run(workspace, settings, CELL, "demo")
