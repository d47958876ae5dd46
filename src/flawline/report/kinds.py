"""Defect types: how well each is found, whether it was known before, and what it is taken for."""

from dataclasses import dataclass

import pandas as pd

from flawline.evaluate.confusion import GOOD, confusion_matrix
from flawline.evaluate.novelty import NOVEL, SEEN
from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results
from flawline.report.reasons import namers, shown
from flawline.report.values import ALL, Row, Value, mark_best

#: of a type's images against the good ones of its category
FOUND = ("detection_rate", "image_auroc", "pixel_auroc", "aupro")
#: one type against the others
NAMED = ("type_accuracy", "type_auroc")
_SPLIT = ("image_auroc", "pixel_auroc", "aupro", "type_auroc")


@dataclass(frozen=True)
class KindRow:
    """A defect type of a category: how many images, whether the shown prompts may know it (None: nobody can tell)."""

    category: str
    defect: str
    images: int
    seen: bool | None
    values: list[Value]


@dataclass(frozen=True)
class KindTable:
    """The types of one test set. `found` and `named`: the methods whose columns FOUND and NAMED are (None: none)."""

    test: str
    found: str
    named: str | None
    rows: list[KindRow]


def kind_tables(results: Results) -> list[KindTable]:
    """For each test set its defect types: how the shown method finds them, and how well a method that knows types
    (the shown one if it does, else the best) tells them apart."""
    if results.chosen is None:
        return []
    method, train = results.chosen.method, results.train
    knows = namers(results)
    naming = next((name for name in [method, *results.methods] if name in knows), None)
    table, tables = results.metrics[results.metrics["train_set"] == train], []
    for test in results.settings.data.test:
        here = table[(table["test_set"] == test) & (table["metric"] == "image_auroc")]
        here = here[(here["category"] != MEAN) & (here["defect"] != ALL)]
        rows = []
        for category, defect in here[["category", "defect"]].drop_duplicates().itertuples(index=False):
            place = train, test
            values = [shown(results, method, *place, metric, category, defect) for metric in FOUND]
            if naming:
                values.append(shown(results, naming, *place, "type_accuracy", category, defect))
                values.append(shown(results, naming, *place, "type_auroc", MEAN, defect))
            images = results.numbers.images(method, *place, "image_auroc", category, defect)
            known = results.seen.get(test, {}).get(defect)
            rows.append(KindRow(str(category), str(defect), images, known, values))
        if rows:
            tables.append(KindTable(test, method, naming, rows))
    return tables


@dataclass(frozen=True)
class Split:
    """Seen against new types: for each test set (`mean` first) and method the metrics of both sides."""

    metrics: list[str]
    sides: list[str]
    rows: list[Row]


def split(results: Results) -> Split | None:
    """Of the shown training set; None where no split was made."""
    part = results.metrics[results.metrics["train_set"] == results.train]
    part = part[part["defect"].isin([SEEN, NOVEL])]
    sides = [side for side in (SEEN, NOVEL) if (part["defect"] == side).any()]
    metrics = [metric for metric in _SPLIT if (part["metric"] == metric).any()]
    if not sides:
        return None
    rows = []
    for test in results.targets:
        columns = [
            mark_best(
                [shown(results, m, results.train, test, metric, MEAN, side) for m in results.methods], metric
            )
            for side in sides
            for metric in metrics
        ]
        if any(one.value is not None for column in columns for one in column):
            rows += [Row(test, m, [c[number] for c in columns]) for number, m in enumerate(results.methods)]
    return Split(metrics, sides, rows)


@dataclass(frozen=True)
class Share:
    """One cell of a confusion matrix: `percent` of the row, `count` images over all seeds; `right`: on the diagonal."""

    percent: int
    count: int
    right: bool


@dataclass(frozen=True)
class Confusion:
    """True types down, named types across, over all seeds. `good` across: not reported; `good` down: false alarms."""

    method: str
    test: str
    seeds: int
    columns: list[str]
    rows: list[tuple[str, int, list[Share]]]


def confusions(results: Results, at_threshold: bool) -> list[Confusion]:
    """Of each method that knows types on each test set, the shown training set alone; best method first.

    Args:
        at_threshold: what would be reported, else the most probable type of every defective image.
    """
    found = []
    for method in results.methods:
        for test in results.settings.data.test:
            tables = [
                table
                for (cell, tested), table in results.confusions.items()
                if (cell.method, cell.train, tested) == (method, results.train, test)
            ]
            if tables:
                found.append(_confusion(method, test, tables, at_threshold))
    return found


def _confusion(method: str, test: str, tables: list[pd.DataFrame], at_threshold: bool) -> Confusion:
    together = pd.concat(tables, ignore_index=True)
    counts = confusion_matrix(together, at_threshold=at_threshold)
    rows = []
    for true, counted in counts.iterrows():
        total = int(counted.sum())
        shares = [
            Share(round(100 * int(count) / total) if total else 0, int(count), named == true)
            for named, count in counted.items()
        ]
        rows.append((str(true), total, shares))
    return Confusion(method, test, len(tables), [str(name) for name in counts.columns], rows)


__all__ = ["FOUND", "GOOD", "NAMED", "Confusion", "KindTable", "Split", "confusions", "kind_tables", "split"]
