"""Why a number is not there: from absent.json of the evaluations, in words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from flawline.evaluate.absent import NOWHERE
from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results
from flawline.report.values import ALL, NAMES, Value


def namers(results: Results) -> set[str]:
    """Methods that tell defect types apart."""
    return {cell.method for cell, _ in results.confusions} | results.numbers.methods_with("type_accuracy")


def shown(
    results: Results,
    method: str,
    train: str,
    test: str,
    metric: str,
    category: str = MEAN,
    defect: str = ALL,
) -> Value:
    """The number with its reason: why it is absent, or which categories it does without."""
    one = results.numbers.value(method, train, test, metric, category, defect)
    rows = set(_reasons(results, method, train, test, metric))
    if one.value is not None:
        if category != MEAN or defect != ALL:
            return one
        left_out = sorted({f"{where} ({why})" for where, kind, why in rows if kind == ALL and where != MEAN})
        return replace(one, why=f"without {_joined(left_out)}") if left_out else one
    if metric.startswith("type_"):
        told = "this method does not tell defect types apart"
        return replace(one, why="needs two or more defect types" if method in namers(results) else told)
    own = {why for where, kind, why in rows if (where, kind) == (category, defect) and why != NOWHERE}
    anywhere = {why for _, kind, why in rows if kind == ALL and why != NOWHERE}
    return replace(one, why=_joined(sorted(own or anywhere)) or "it was not computed")


def _reasons(
    results: Results, method: str, train: str, test: str, metric: str
) -> Iterator[tuple[str, str, str]]:
    """(category, defect, reason) of one metric; over all test sets for their mean."""
    for tested in results.settings.data.test if test == MEAN else [test]:
        for where, defect, why in results.reasons.get((method, train, tested, metric), ()):
            yield where if test != MEAN or where == MEAN else tested, defect, why


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(parts)


@dataclass(frozen=True)
class Absence:
    """What a test set does without: where, what, why, and for which methods (empty: all)."""

    test: str
    where: str
    what: str
    why: str
    methods: list[str]


def absences(results: Results) -> list[Absence]:
    """Every reason once, test sets in their order."""
    found: dict[tuple[str, str, str, str], set[str]] = {}
    for (cell, test), record in results.absent.items():
        for row in record.get("absent", []):
            if row["reason"] == NOWHERE:
                continue
            where = row["category"] if row["defect"] == ALL else f"{row['category']}, {row['defect']}"
            what = ", ".join(NAMES.get(metric, metric) for metric in row["metrics"])
            found.setdefault((test, where, what, str(row["reason"])), set()).add(cell.method)
        for row in record.get("left_out", []):
            what = f"{row.get('images')} images in pixel metrics"
            key = (test, str(row.get("category")), what, str(row.get("reason")))
            found.setdefault(key, set()).add(cell.method)
    order = {test: number for number, test in enumerate(results.settings.data.test)}
    every = set(results.settings.tune.methods)
    return [
        Absence(*key, [] if methods == every else sorted(methods))
        for key, methods in sorted(found.items(), key=lambda one: (order[one[0][0]], one[0][1:]))
    ]
