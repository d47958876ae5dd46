"""The gate: what cannot be shown keeps the champion."""

from pathlib import Path

from flawline.gate.decide import decide
from gate.made import SETTINGS, Images, candidate, judged


def test_too_few_seeds_are_not_enough_evidence(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.5}, seeds={0: 0.0, 1: 0.0})
    old = candidate(tmp_path, "old", {"boards": 1.0}, seeds={0: 0.0})
    decision = decide(new, old, SETTINGS, "r")
    assert decision.verdict == "stay" and decision.reason.startswith(
        "not enough evidence: 2 seeds were tuned, 3"
    )
    assert decision.tests, "what could be measured is told all the same"
    assert decide(new, old, SETTINGS.model_copy(update={"min_seeds": 2}), "r").verdict == "promote"


def test_too_few_images_are_not_enough_evidence(tmp_path: Path) -> None:
    small = Images(good=6, types={"crack": 30})
    decision = judged(tmp_path, {"boards": 3.0}, {"boards": 1.0}, images=small)
    assert (
        decision.verdict == "stay" and "boards has 12 good and 60 defective images, and 20" in decision.reason
    )
    brave = SETTINGS.model_copy(update={"min_images": 12, "false_alarm_margin": 0.5})
    assert judged(tmp_path / "b", {"boards": 3.0}, {"boards": 1.0}, brave, images=small).verdict == "promote"


def test_nothing_to_compare_with_is_not_enough_evidence(tmp_path: Path) -> None:
    new = candidate(tmp_path, "new", {"boards": 2.0})
    assert "not enough evidence" in decide(new, None, SETTINGS, "r").reason
    elsewhere = candidate(tmp_path, "old", {"fabrics": 1.0})
    decision = decide(new, elsewhere, SETTINGS, "r")
    assert decision.verdict == "stay" and decision.tests == () and "not enough evidence" in decision.reason
    more = candidate(tmp_path, "more", {"boards": 1.0, "fabrics": 1.0})
    assert "fabrics was not evaluated for both" in decide(new, more, SETTINGS, "r").reason


def test_one_class_only_is_not_enough_evidence(tmp_path: Path) -> None:
    only_good = Images(types={"crack": 0})
    decision = judged(tmp_path, {"boards": 2.0}, {"boards": 1.0}, images=only_good)
    assert decision.verdict == "stay" and "not enough evidence" in decision.reason
    assert "cannot be computed" in decision.reason
