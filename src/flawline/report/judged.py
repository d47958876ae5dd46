"""The tests of a decision as rows of the page, in words; also those of decisions that an older version wrote."""

from dataclasses import dataclass
from typing import Any

from flawline.gate.claim import COST
from flawline.gate.words import claim_words, filled
from flawline.report.values import signed
from flawline.report.verdicts import p_text


@dataclass(frozen=True)
class JudgedRow:
    """One test, as text.

    Attributes:
        claim: what had to hold, or (not `decides`) is told beside.
        challenger, other, difference: values. low, high: the interval of the difference; empty where there is none.
        p: corrected where it is one of a family; empty for none. images: `48 + 63`, good and defective, or empty.
        holds: whether the claim does.
    """

    claim: str
    challenger: str
    other: str
    difference: str
    low: str
    high: str
    p: str
    images: str
    holds: bool
    decides: bool


def judged_rows(decision: dict[str, Any]) -> list[JudgedRow]:
    """The tests of a decision file, those that decide before those that are only told."""
    rows = [_row(filled(test, decision.get("margin"))) for test in decision.get("tests") or []]
    return sorted(rows, key=lambda row: not row.decides)


def _row(test: dict[str, Any]) -> JudgedRow:
    ours, theirs, low, high = (float(test[key]) for key in ("challenger", "champion", "ci_low", "ci_high"))
    counted = test["metric"] == COST
    images = (
        "" if not (test["n_normal"] or test["n_anomalous"]) else f"{test['n_normal']} + {test['n_anomalous']}"
    )
    return JudgedRow(
        claim=claim_words(test).removesuffix(" (told, not needed)"),
        challenger=f"{ours / 1e6:.0f} million" if counted else f"{ours:.3f}",
        other=f"{theirs / 1e6:.0f} million" if counted else f"{theirs:.3f}",
        difference=f"{ours / theirs:.2f} times" if counted and theirs else signed(float(test["difference"])),
        low="" if counted else signed(low),
        high="" if counted else signed(high),
        p="" if test["p_holm"] is None else p_text(float(test["p_holm"])),
        images=images,
        holds=bool(test["passed"]),
        decides=bool(test["decides"]),
    )
