"""Type metrics against a plain reference, and what makes them absent."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from flawline.evaluate.bootstrap import resample
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


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_f1_equal_scikit_learn(seed: int) -> None:
    scores, truth, categories, defects = made(seed)
    found = type_metrics(scores, truth, categories, defects, 50, 0)
    bad = [k for k, true in enumerate(truth) if true]
    true, named = [truth[k] for k in bad], [scores.named()[k] for k in bad]
    share = scores.probabilities[bad, 1:] / scores.probabilities[bad, 1:].sum(1, keepdims=True)
    each = f1_score(true, named, labels=WORDS, average=None)
    for column, words in enumerate(WORDS):
        labels = [word == words for word in true]
        precision = average_precision_score(labels, share[:, column])
        assert found["mean", words, "type_ap"].value == pytest.approx(precision)
        assert found["mean", words, "type_f1"].value == pytest.approx(each[column])
    macro_f1 = f1_score(true, named, labels=WORDS, average="macro")
    assert found["mean", "all", "type_f1"].value == pytest.approx(macro_f1)


def test_resampled_f1_is_that_of_the_drawn_images() -> None:
    scores, truth, categories, defects = made(8)
    found = type_metrics(scores, truth, categories, defects, 20, 3)
    bad = np.asarray([k for k, true in enumerate(truth) if true])
    strata = [f"{categories[k]}/{defects[k]}" for k in bad]
    drawn = np.repeat(bad, resample(strata, 20, 3)[7])
    named = scores.named()
    expected = f1_score([truth[k] for k in drawn], [named[k] for k in drawn], labels=WORDS, average="macro")
    assert found["mean", "all", "type_f1"].samples[7] == pytest.approx(expected)


def test_seen_and_novel_types_are_means_of_their_own() -> None:
    given = made(9)
    found = type_metrics(*given, 30, 0, None, frozenset({"dent", "crack", "rust"}))
    for metric in ("type_auroc", "type_ap", "type_f1"):
        pair = [found["mean", words, metric] for words in ("crack", "dent")]
        assert found["mean", "seen types", metric].value == pytest.approx(
            np.mean([one.value for one in pair])
        )
        assert found["mean", "seen types", metric].samples == pytest.approx(
            np.mean([one.samples for one in pair], 0)
        )
        assert found["mean", "novel types", metric].value == found["mean", "scratch", metric].value
    whole = type_metrics(*given, 30, 0)
    assert not {"seen types", "novel types"} & {defect for _, defect, _ in whole}
    assert all(np.array_equal(found[key].samples, one.samples) for key, one in whole.items())
    assert ("mean", "novel types", "type_auroc") not in type_metrics(*given, 30, 0, None, frozenset(WORDS))


def test_groups_widen_and_do_not_move() -> None:
    scores, truth, categories, defects = made(10, n=120)
    many = TypeScores(WORDS, np.repeat(scores.probabilities, 4, axis=0))
    copies = [words for words in truth for _ in range(4)]
    given = many, copies, np.repeat(categories, 4), np.repeat(defects, 4), 300, 0
    fooled = type_metrics(*given)["mean", "all", "type_accuracy"]
    grouped = type_metrics(*given, np.repeat(np.arange(120), 4))["mean", "all", "type_accuracy"]
    assert grouped.value == fooled.value and grouped.samples.std() > 1.6 * fooled.samples.std()
