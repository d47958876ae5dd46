"""The confusion matrix: counts, both readings, and the file."""

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.confusion import confusion, confusion_matrix, read_confusion
from flawline.evaluate.tables import write_table
from flawline.evaluate.types import TypeScores, type_metrics

WORDS = ["NA", "crack", "dent"]


@pytest.fixture
def table():
    named = [1, 1, 2, 2, 0, 1]
    probabilities = np.full((6, 4), 0.1)
    probabilities[np.arange(6), 1 + np.asarray(named)] = 0.7
    truth = ["crack", "crack", "crack", "dent", "", ""]
    categories = np.asarray(["b", "a", "b", "a", "a", "b"])
    return confusion(
        TypeScores(WORDS, probabilities), truth, categories, np.asarray([0.9, 0.2, 0.8, 0.9, 0.7, 0.1]), 0.5
    )


def test_counts(table):
    every = table[table["category"] == "all"].to_dict("records")
    assert every == [
        {"category": "all", "true": "crack", "named": "crack", "images": 2, "flagged": 1},
        {"category": "all", "true": "crack", "named": "dent", "images": 1, "flagged": 1},
        {"category": "all", "true": "dent", "named": "dent", "images": 1, "flagged": 1},
        {"category": "all", "true": "good", "named": "NA", "images": 1, "flagged": 1},
        {"category": "all", "true": "good", "named": "crack", "images": 1, "flagged": 0},
    ]
    assert table["category"].drop_duplicates().tolist() == ["a", "b", "all"]
    assert table[table["category"] != "all"]["images"].sum() == 6


def test_defects_alone_and_as_served(table):
    plain = confusion_matrix(table)
    assert plain.index.tolist() == ["crack", "dent"] and plain.columns.tolist() == ["crack", "dent"]
    assert plain.to_numpy().tolist() == [[2, 1], [0, 1]]
    served = confusion_matrix(table, at_threshold=True)
    assert served.columns.tolist() == ["NA", "crack", "dent", "good"]
    assert served.loc["crack"].tolist() == [0, 1, 1, 1] and served.loc["good"].tolist() == [1, 0, 0, 1]
    assert served.to_numpy().sum() == 6
    assert confusion_matrix(table, "a").to_numpy().tolist() == [[1, 0], [0, 1]]


def test_file_keeps_words_that_look_like_missing_values(table, tmp_path):
    write_table(tmp_path / "confusion.csv", table)
    assert read_confusion(tmp_path / "confusion.csv").equals(table)
    (tmp_path / "confusion.csv").write_text("category,true\na,b\n")
    with pytest.raises(FlawlineError, match="lacks the column named"):
        read_confusion(tmp_path / "confusion.csv")
    with pytest.raises(FlawlineError, match=r"none\.csv is missing"):
        read_confusion(tmp_path / "none.csv")


def test_the_diagonal_is_the_accuracy():
    random = np.random.default_rng(0)
    truth = [("", *WORDS)[k] for k in random.integers(4, size=50)]
    scores = TypeScores(WORDS, random.random((50, 4)))
    categories = np.repeat("a", 50)
    matrix = confusion_matrix(confusion(scores, truth, categories, random.random(50), 0.5))
    defects = np.asarray([words or "good" for words in truth])
    found = type_metrics(scores, truth, categories, defects, 100, 0)
    assert np.trace(matrix) / matrix.to_numpy().sum() == pytest.approx(
        found["a", "all", "type_accuracy"].value
    )
