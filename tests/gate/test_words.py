"""Tests in words: of this version's decisions and of older ones."""

from dataclasses import asdict

import pytest

from flawline.gate.claim import Claim
from flawline.gate.words import claim_words, failing, filled, found_words

NUMBERS = {"champion": 0.8, "challenger": 0.9, "difference": 0.1, "ci_low": 0.05, "ci_high": 0.15}


def claim(**fields: object) -> Claim:
    whole = {
        "test_set": "boards",
        "metric": "image_auroc",
        **NUMBERS,
        "passed": False,
        "claim": "not worse",
        "bound": 0.05,
    }
    return Claim(**{**whole, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("fields", "told"), [
    ({}, "boards: image AUROC is not worse by 0.05"),
    ({"defect": "crack", "bound": 0.1}, "boards, crack: image AUROC is not worse by 0.1"),
    ({"test_set": "mean", "seed": 2}, "mean of the test sets, worst seed (2): image AUROC is not worse by 0.05"),
    ({"test_set": "mean", "claim": "better"}, "mean of the test sets: image AUROC is better"),
    ({"claim": "better", "decides": False}, "boards: image AUROC is better (told, not needed)"),
    ({"claim": "above chance", "whose": "champion"}, "boards: the champion's image AUROC is not below chance"),
    ({"claim": "cost", "bound": 2.0}, "an image takes at most 2 times the operations"),
])  # fmt: skip
def test_what_is_claimed(fields: dict, told: str) -> None:
    assert claim_words(asdict(claim(**fields))) == told


def test_what_was_found() -> None:
    assert found_words(asdict(claim())) == "0.900 against 0.800: +0.100 (+0.050 to +0.150)"
    assert found_words(asdict(claim(p=0.01, p_holm=0.03))).endswith(", p 0.030 (Holm)")
    assert found_words(asdict(claim(p=0.0004, p_holm=0.0004))).endswith(", p < 0.001")
    cost = claim(metric="operations", champion=2e6, challenger=3e6)
    assert found_words(asdict(cost)) == "3.0 against 2.0 million: 1.50 times"


def test_clauses_are_gathered_by_margin() -> None:
    told = failing(
        [claim(), claim(defect="crack", bound=0.1), claim(test_set="fabrics"), claim(passed=True)], "champion"
    )
    assert len(told) == 2
    assert told[0].startswith("not shown to be within 0.05 of the champion: image_auroc on boards (+0.100")
    assert "image_auroc on fabrics" in told[0] and "crack on boards" in told[1]


def test_decisions_of_older_versions_are_read() -> None:
    single = filled({"test_set": "boards", "metric": "pixel_auroc", **NUMBERS, "passed": True}, 0.02)
    mean = filled({"test_set": "mean", "metric": "image_auroc", **NUMBERS, "passed": True}, 0.02)
    assert claim_words(single) == "boards: pixel AUROC is not worse by 0.02"
    assert claim_words(mean) == "mean of the test sets: image AUROC is better"
    assert found_words(mean) == "0.900 against 0.800: +0.100 (+0.050 to +0.150)"
    assert set(single) == set(asdict(claim()))
