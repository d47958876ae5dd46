"""Defect types that a champion had never known: what they were worth before, and what they are now."""

from dataclasses import dataclass
from typing import Any

from flawline.report.gather import Results
from flawline.report.kinds import namers
from flawline.report.reasons import shown
from flawline.report.values import Value, signed

#: beside image AUROC, which the gate measured for both sides: what the challenger's evaluation says of the type
AFTER = ("detection_rate", "pixel_auroc", "type_accuracy")
_LEAD = "image_auroc"


@dataclass(frozen=True)
class Arrival:
    """A type of a test set that was new to the champion when a decision was taken.

    Attributes:
        before, after: image AUROC of its images against the good ones, of the champion and of the challenger.
        difference, low, high: challenger less champion, with its interval.
        images: defective ones of the type.
        now: AFTER of the challenger's method, where the page has its results; `type_accuracy` of the method that names
            types best.
    """

    test: str
    defect: str
    before: str
    after: str
    difference: str
    low: str
    high: str
    images: int
    now: list[Value]


@dataclass(frozen=True)
class Arrivals:
    """The new types of one decision: who was compared, and whether the challenger serves since."""

    number: int
    champion: dict[str, Any]
    challenger: dict[str, Any]
    promoted: bool
    current: bool
    rows: list[Arrival]


def arrivals(results: Results) -> Arrivals | None:
    """Of the newest decision that met a type new to its champion; None where there is none."""
    for decision in results.decisions:
        new = [(str(test), str(defect)) for test, defect in decision.get("new_types") or []]
        champion, challenger = decision.get("champion"), decision.get("challenger")
        if not new or not champion or not challenger:
            continue
        current = decision.get("results") == results.results_hash
        rows = [row for place in new if (row := _row(results, decision, *place, current)) is not None]
        if rows:
            promoted = decision.get("verdict") == "promote"
            return Arrivals(int(decision["number"]), champion, challenger, promoted, current, rows)
    return None


def _row(results: Results, decision: dict[str, Any], test: str, defect: str, current: bool) -> Arrival | None:
    """The decision's test of the type: the one for being no worse, else for being better."""
    found = [
        one
        for one in decision.get("tests", [])
        if (one.get("test_set"), one.get("defect"), one.get("metric")) == (test, defect, _LEAD)
        and one.get("claim") in ("better", "not worse")
    ]
    if not found:
        return None
    one = found[0]
    method = str(decision["challenger"].get("method"))
    train = str(decision["challenger"].get("train_set"))
    now = [_now(results, metric, method, train, test, defect) for metric in AFTER] if current else []
    return Arrival(
        test=test,
        defect=defect,
        before=f"{one['champion']:.3f}",
        after=f"{one['challenger']:.3f}",
        difference=signed(float(one["difference"])),
        low=signed(float(one["ci_low"])),
        high=signed(float(one["ci_high"])),
        images=int(one.get("n_anomalous", 0)),
        now=now,
    )


def _now(results: Results, metric: str, method: str, train: str, test: str, defect: str) -> Value:
    """The metric of the type, in the category that has most of its images where there are several."""
    if metric == "type_accuracy":
        method = next((name for name in [method, *results.methods] if name in namers(results)), method)
    table = results.metrics
    rows = table[
        (table["test_set"] == test)
        & (table["train_set"] == train)
        & (table["defect"] == defect)
        & (table["metric"] == metric)
        & (table["method"] == method)
    ].sort_values(["n_anomalous", "category"], ascending=[False, True])
    category = str(rows.iloc[0]["category"]) if len(rows) else "mean"
    return shown(results, method, train, test, metric, category, defect)
