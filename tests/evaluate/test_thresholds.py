"""Rates at a fixed threshold against plain counting."""

import numpy as np
import pytest

from flawline.evaluate.thresholds import threshold_metrics


def made(seed: int = 0, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    categories = np.asarray(["bolt", "nut"])[random.integers(0, 2, n)]
    defects = np.where(labels == 0, "good", np.asarray(["crack", "dent"])[random.integers(0, 2, n)])
    return labels, np.round(random.normal(labels, 1), 1), categories, defects


def test_equal_to_counting() -> None:
    labels, scores, categories, defects = made()
    found = threshold_metrics(labels, scores, categories, defects, 0.5, 200, 0)
    means = {"false_alarm_rate": [], "detection_rate": [], "accuracy": []}
    for name in ("bolt", "nut"):
        here = [k for k in range(80) if categories[k] == name]
        good = [scores[k] > 0.5 for k in here if labels[k] == 0]
        bad = [scores[k] > 0.5 for k in here if labels[k] == 1]
        right = [(scores[k] > 0.5) == (labels[k] == 1) for k in here]
        for metric, values in (("false_alarm_rate", good), ("detection_rate", bad), ("accuracy", right)):
            assert found[name, "all", metric].value == pytest.approx(np.mean(values))
            means[metric].append(np.mean(values))
        dents = [scores[k] > 0.5 for k in here if defects[k] == "dent"]
        assert found[name, "dent", "detection_rate"].value == pytest.approx(np.mean(dents))
        assert found[name, "dent", "detection_rate"].n_anomalous == len(dents)
        alarms = found[name, "all", "false_alarm_rate"]
        assert (alarms.n_normal, alarms.n_anomalous) == (len(good), 0)
    for metric, values in means.items():
        assert found["mean", "all", metric].value == pytest.approx(np.mean(values))
    assert not any(metric != "detection_rate" and defect != "all" for _, defect, metric in found)


def test_a_score_on_the_threshold_is_no_alarm() -> None:
    found = threshold_metrics(
        np.zeros(2), np.asarray([0.5, 0.6]), np.repeat("c", 2), np.repeat("good", 2), 0.5, 100, 0
    )
    assert found["c", "all", "false_alarm_rate"].value == 0.5


def test_one_class_alone_has_its_rate_and_no_other() -> None:
    labels, scores, categories, defects = made()
    good = labels == 0
    found = threshold_metrics(labels[good], scores[good], categories[good], defects[good], 0.5, 100, 0)
    assert {metric for _, _, metric in found} == {"false_alarm_rate", "accuracy"}
    mixed = (categories == "bolt") | (labels == 0)
    found = threshold_metrics(labels[mixed], scores[mixed], categories[mixed], defects[mixed], 0.5, 100, 0)
    assert ("nut", "all", "detection_rate") not in found
    assert found["mean", "all", "detection_rate"].value == found["bolt", "all", "detection_rate"].value


def test_intervals_are_binomial_and_widen_with_groups() -> None:
    labels, scores = np.zeros(200, dtype=int), np.arange(200) / 200
    place = np.repeat("c", 200), np.repeat("good", 200)
    alone = threshold_metrics(labels, scores, *place, 0.9, 2000, 0)["c", "all", "false_alarm_rate"]
    assert alone.value == pytest.approx(0.095) and alone.samples.std() == pytest.approx(
        (0.095 * 0.905 / 200) ** 0.5, rel=0.1
    )
    views = np.repeat(np.arange(20), 10)
    grouped = threshold_metrics(labels, scores, *place, 0.9, 2000, 0, views)["c", "all", "false_alarm_rate"]
    assert grouped.value == alone.value and grouped.samples.std() > 2 * alone.samples.std()
