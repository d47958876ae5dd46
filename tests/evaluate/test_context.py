"""What a cell must know: read once, refused where it leaks, and turned into metrics."""

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.context import contextual_metrics, novelty_metrics, read_context
from flawline.evaluate.measure import Measured
from flawline.evaluate.provenance import provenance
from flawline.evaluate.types import TypeScores
from flawline.files import read_json, write_json, write_parquet
from flawline.workspace import Cell

from . import evaluated

CELL = Cell("learned", "castings", 0)


@pytest.fixture
def line(workspace):
    return workspace, evaluated.lay_out(workspace), evaluated.index_of("boards")


def test_read(line):
    workspace, _, index = line
    context = read_context(workspace, CELL, "boards", index)
    assert context.threshold == 2.0 and context.groups is None
    assert context.folders == {"crack": "crack", "stain": "stain"} and context.seen == {"crack", "stain"}
    assert [bool(words) for words in context.words] == (index["label"] == 1).tolist()
    assert context.provenance == provenance(workspace, CELL, "boards")
    # A method that learned no types has those of the training set.
    assert read_context(workspace, Cell("words", "castings", 0), "boards", index).seen == {"crack"}


def test_groups_in_the_order_of_the_index(line):
    workspace, _, index = line
    table = evaluated.manifest()
    write_parquet(workspace.manifest, table.assign(group=["g" + image for image in table["image"]]))
    turned = index.iloc[::-1]
    groups = read_context(workspace, CELL, "boards", turned).groups
    assert [name.partition("/")[2] for name in groups] == ["g" + image for image in turned["image"]]


def test_a_leak_and_a_card_without_threshold_are_refused(line):
    workspace, _, index = line
    path = workspace.prompts(CELL) / "card.json"
    card = read_json(path)
    write_json(path, card | {"train_sha256": ["boards-4", "castings-0"]})
    with pytest.raises(FlawlineError, match=r"boards/bolts/test/.* of 'boards' trained these prompts"):
        read_context(workspace, CELL, "boards", index)
    write_json(path, {key: value for key, value in card.items() if key != "threshold"})
    with pytest.raises(FlawlineError, match=r"card\.json has no threshold"):
        read_context(workspace, CELL, "boards", index)


def test_metrics(line):
    workspace, settings, index = line
    context = read_context(workspace, CELL, "boards", index)
    scores = evaluated.scored("learned", 0, "boards").scores
    plain = contextual_metrics(context, index, scores, None, settings.evaluate)
    assert {metric for _, _, metric in plain} == {"false_alarm_rate", "detection_rate", "accuracy"}
    good = index["label"].to_numpy() == 0
    rates = [np.mean(scores[good & (index["category"] == name)] > 2.0) for name in ("bolts", "tiles")]
    assert plain["mean", "all", "false_alarm_rate"].value == pytest.approx(np.mean(rates))
    types = TypeScores(["crack", "stain"], np.random.default_rng(0).random((48, 3)))
    told = contextual_metrics(context, index, scores, types, settings.evaluate)
    assert set(plain) < set(told) and ("mean", "seen types", "type_ap") in told


def test_novelty(line):
    workspace, _, index = line
    context = read_context(workspace, Cell("words", "castings", 0), "boards", index)
    one = Measured(0.5, np.asarray([0.4, 0.6]), 8, 8)
    found = novelty_metrics(context, {("bolts", "crack"): {"aupro": one}, ("bolts", "stain"): {"aupro": one}})
    assert set(found) == {("mean", "seen types", "aupro"), ("mean", "novel types", "aupro")}
