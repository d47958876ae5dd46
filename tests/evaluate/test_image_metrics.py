import numpy as np
import pytest

from flawline.evaluate.image_metrics import image_metrics, roc_points


def slow_auroc(labels, scores):
    """Every pair of a good and a defective image, one by one."""
    bad = [s for s, label in zip(scores, labels, strict=True) if label]
    good = [s for s, label in zip(scores, labels, strict=True) if not label]
    wins = sum(1.0 if b > g else 0.5 if b == g else 0.0 for b in bad for g in good)
    return wins / (len(bad) * len(good))


def slow_thresholds(labels, scores):
    """(precision, recall, f1) at every distinct score, from the highest down."""
    rows = []
    for threshold in sorted(set(scores), reverse=True):
        called = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        precision, recall = sum(called) / len(called), sum(called) / sum(labels)
        rows.append(
            (precision, recall, 2 * precision * recall / (precision + recall) if sum(called) else 0.0)
        )
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_plain_definitions(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 40).tolist()
    scores = np.round(random.normal(np.asarray(labels), 1), 1).tolist()
    steps = slow_thresholds(labels, scores)
    recalls = [0.0, *[recall for _, recall, _ in steps]]
    ap = sum((recalls[i + 1] - recalls[i]) * steps[i][0] for i in range(len(steps)))
    found = image_metrics(labels, scores)
    assert found["image_auroc"] == pytest.approx(slow_auroc(labels, scores))
    assert found["image_ap"] == pytest.approx(ap)
    assert found["image_f1_max"] == pytest.approx(max(f1 for _, _, f1 in steps))


@pytest.mark.parametrize("case", ["smooth", "weak", "ties", "outlier"])
def test_golden(golden, case):
    tensors, values = golden
    labels = tensors["in.masks"].any(axis=(1, 2))
    found = image_metrics(labels, tensors[f"in.maps_{case}"].max(axis=(1, 2)))
    expected = values[case]
    assert found["image_auroc"] == pytest.approx(expected["image_auroc"])
    assert found["image_ap"] == pytest.approx(expected["image_ap"])
    assert found["image_f1_max"] == pytest.approx(expected["image_f1max"])


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_only_is_absent_not_zero(labels):
    assert image_metrics(labels, [0.1, 0.2, 0.3]) == {}


def test_worst_scores_are_worth_zero_and_perfect_ones_one():
    labels = [0, 0, 1, 1]
    assert image_metrics(labels, [3, 4, 1, 2])["image_auroc"] == 0
    assert set(image_metrics(labels, [1, 2, 3, 4]).values()) == {1.0}


def test_roc_runs_from_corner_to_corner():
    fpr, tpr = roc_points([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8])
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
