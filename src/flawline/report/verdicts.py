"""Paired tests in words: is a method better, or could these images show the difference by chance?"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flawline.evaluate.significance import BASELINE, BEST_OTHER, METRICS
from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results
from flawline.report.values import NAMES, signed

Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Comparison:
    """A method against another one on a test set (or `mean`), as text.

    Attributes:
        value, other_value: of the metric. difference: method - other. low, high: its interval.
        p: of "there is no difference", corrected for the number of test sets (not for their mean); empty if unknown.
        verdict: `open` where the interval holds 0 or p is not below 1 - confidence.
        apart: for the mean, what the single test sets say: (test set, verdict).
    """

    method: str
    other: str
    test: str
    value: str
    other_value: str
    difference: str
    low: str
    high: str
    p: str
    verdict: Verdict
    apart: list[tuple[str, Verdict]]


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of one training set in one metric; `against_*` over all test sets, `single` on each."""

    train: str
    metric: str
    name: str
    against_baseline: list[Comparison]
    against_best: list[Comparison]
    single: list[Comparison]


def comparisons(results: Results) -> list[Comparisons]:
    """By training set (the shown one first) and metric (the gate's first); methods in the page's order."""
    table, found = results.tests, []
    if table is None or table.empty:
        return []
    alpha = round(1 - results.settings.evaluate.confidence, 9)
    first = results.settings.gate.better_in
    trains = sorted(results.settings.data.train, key=lambda train: train != results.train)
    for train in trains:
        for metric in sorted(METRICS, key=lambda name: name != first):
            part = table[(table["train_set"] == train) & (table["metric"] == metric)]
            if part.empty:
                continue
            sides = {a: _against(results, part[part["against"] == a], alpha) for a in (BASELINE, BEST_OTHER)}
            single = [one for _, alone in sides.values() for one in alone]
            # Where the best other is the baseline, both rows say the same.
            unlike = {(one.method, one.other, one.test): one for one in single}
            over = sides[BASELINE][0], sides[BEST_OTHER][0]
            found.append(Comparisons(train, metric, NAMES[metric], *over, list(unlike.values())))
    return found


def _against(results: Results, part: pd.DataFrame, alpha: float) -> tuple[list[Comparison], list[Comparison]]:
    """Rows over the test sets (of the only one where there is no mean), and rows of each."""
    over, single = [], []
    for method in results.methods:
        mine = part[part["method"] == method]
        alone = [_compared(row, alpha, []) for _, row in mine[mine["test_set"] != MEAN].iterrows()]
        apart = [(one.test, one.verdict) for one in alone]
        means = [_compared(row, alpha, apart) for _, row in mine[mine["test_set"] == MEAN].iterrows()]
        over += means or alone
        single += alone if means else []
    return over, single


def _compared(row: "pd.Series[float]", alpha: float, apart: list[tuple[str, Verdict]]) -> Comparison:
    known = [row[key] for key in ("p_holm", "p_delong", "p_bootstrap") if not pd.isna(row[key])]
    p = float(known[0]) if known else float("nan")
    bounds = [] if pd.isna(row["ci_low"]) or pd.isna(row["ci_high"]) else [row["ci_low"], row["ci_high"]]
    return Comparison(
        method=str(row["method"]),
        other=str(row["other"]),
        test=str(row["test_set"]),
        value=f"{row['value']:.3f}",
        other_value=f"{row['other_value']:.3f}",
        difference=signed(float(row["difference"])),
        low=signed(float(bounds[0])) if bounds else "",
        high=signed(float(bounds[1])) if bounds else "",
        p=p_text(p),
        verdict=_verdict(bounds, p, alpha),
        apart=apart,
    )


def _verdict(bounds: list[float], p: float, alpha: float) -> Verdict:
    if not bounds or not p < alpha:
        return "open"
    return "better" if bounds[0] > 0 else "worse" if bounds[1] < 0 else "open"


def p_text(p: float) -> str:
    """`0.031`, `< 0.001`; empty for NaN."""
    if pd.isna(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
