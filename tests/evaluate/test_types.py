"""Type metrics against a plain reference, and what makes them absent."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flawline.evaluate.types import TypeScores, type_metrics

WORDS = ["crack", "dent", "scratch"]


def made(seed: int, n: int = 60) -> tuple[TypeScores, list[str], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = [("", *WORDS)[k] for k in rng.integers(4, size=n)]
    probabilities = rng.random((n, 4))
    for row, words in enumerate(truth):
        if words:
            probabilities[row, 1 + WORDS.index(words)] += 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    categories = np.asarray([("bolt", "nut")[k] for k in rng.integers(2, size=n)])
    defects = np.asarray([words or "good" for words in truth])
    return TypeScores(WORDS, probabilities), truth, categories, defects


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_plain_counting_and_scikit_learn(seed: int) -> None:
    scores, truth, categories, defects = made(seed)
    found = type_metrics(scores, truth, categories, defects, 50, 0)
    right = [named == true for named, true in zip(scores.named(), truth, strict=True)]
    shares = []
    for category in ("bolt", "nut"):
        rows = [k for k, true in enumerate(truth) if true and categories[k] == category]
        shares.append(np.mean([right[k] for k in rows]))
        assert found[category, "all", "type_accuracy"].value == pytest.approx(shares[-1])
        assert found[category, "all", "type_accuracy"].n_anomalous == len(rows)
        crack = [k for k in rows if truth[k] == "crack"]
        assert found[category, "crack", "type_accuracy"].value == pytest.approx(
            np.mean([right[k] for k in crack])
        )
    assert found["mean", "all", "type_accuracy"].value == pytest.approx(np.mean(shares))
    bad = [k for k, true in enumerate(truth) if true]
    share = scores.probabilities[bad, 1:] / scores.probabilities[bad, 1:].sum(1, keepdims=True)
    curves = [roc_auc_score([truth[k] == w for k in bad], share[:, j]) for j, w in enumerate(WORDS)]
    assert found["mean", "dent", "type_auroc"].value == pytest.approx(curves[1])
    assert found["mean", "all", "type_auroc"].value == pytest.approx(np.mean(curves))


def test_resamples_surround_the_value_and_are_repeatable() -> None:
    given = made(4)
    found = type_metrics(*given, 400, 7)
    for key, one in found.items():
        assert one.samples.shape == (400,)
        assert one.samples.min() - 1e-9 <= one.value <= one.samples.max() + 1e-9, key
    again = type_metrics(*given, 400, 7)
    assert all(np.array_equal(one.samples, again[key].samples) for key, one in found.items())


def test_good_images_take_no_part() -> None:
    scores, truth, categories, defects = made(5)
    before = type_metrics(scores, truth, categories, defects, 10, 0)
    for row, words in enumerate(truth):
        if not words:
            scores.probabilities[row] = [0, 1, 0, 0]
    after = type_metrics(scores, truth, categories, defects, 10, 0)
    assert {k: v.value for k, v in before.items()} == {k: v.value for k, v in after.items()}


def test_what_cannot_be_measured_is_absent() -> None:
    scores, truth, categories, defects = made(6)
    assert type_metrics(scores, [""] * len(truth), categories, np.full(len(truth), "good"), 10, 0) == {}
    one = TypeScores(["crack"], scores.probabilities[:, :2])
    assert type_metrics(one, ["crack"] * len(truth), categories, defects, 10, 0) == {}
    same = type_metrics(scores, ["crack"] * len(truth), categories, np.full(len(truth), "crack"), 10, 0)
    assert ("mean", "all", "type_accuracy") in same and ("mean", "all", "type_auroc") not in same
