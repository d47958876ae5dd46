import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.files import read_json, write_json, write_parquet
from flawline.report.gather import gather
from flawline.report.mistakes import MOST, mistakes
from flawline.workspace import Cell

SHOWN = Cell("human_free", "castings", 2)


def test_misses_and_false_alarms_are_those_of_the_scores(made):
    workspace, settings = made
    line = read_json(workspace.prompts(SHOWN) / "card.json")["threshold"]["value"]
    boards, fabrics = mistakes(workspace, gather(workspace, settings))
    assert (boards.test, fabrics.test) == ("boards", "fabrics")
    scores = pd.read_parquet(workspace.evaluation(SHOWN, "boards") / "scores.parquet")
    bad, good = (scores[scores.label == label].image_score for label in (1, 0))
    assert (boards.missed, boards.defective) == ((bad <= line).sum(), 24)
    assert (boards.alarms, boards.good) == ((good > line).sum(), 12)
    assert len(boards.lowest) == len(boards.highest) == MOST
    assert boards.lowest[0].score == f"{bad.min():.3f}" and boards.highest[0].score == f"{good.max():.3f}"
    assert [one.wrong for one in boards.lowest] == [float(one.score) <= line for one in boards.lowest]


def test_a_score_at_the_threshold_is_no_alarm(made):
    workspace, settings = made
    path = workspace.evaluation(SHOWN, "fabrics") / "scores.parquet"
    scores = pd.read_parquet(path).assign(image_score=0.42)
    write_parquet(path, scores)
    found = mistakes(workspace, gather(workspace, settings))[1]
    assert found.missed == found.defective == 16 and found.alarms == 0
    assert all(one.wrong for one in found.lowest) and not any(one.wrong for one in found.highest)


def test_without_a_threshold_nothing_is_a_mistake(made):
    workspace, settings = made
    path = workspace.prompts(SHOWN) / "card.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key != "threshold"})
    assert mistakes(workspace, gather(workspace, settings)) == []


def test_a_broken_table_is_named(made):
    workspace, settings = made
    path = workspace.evaluation(SHOWN, "boards") / "scores.parquet"
    write_parquet(path, pd.read_parquet(path).drop(columns="image_score"))
    with pytest.raises(FlawlineError, match=r"scores\.parquet lacks the column image_score"):
        mistakes(workspace, gather(workspace, settings))
