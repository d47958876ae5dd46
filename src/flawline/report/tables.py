"""The results tables, made from results/metrics.csv: numbers as text, nothing computed anew."""

from dataclasses import dataclass

from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results, macro_rows
from flawline.report.reasons import shown
from flawline.report.values import ALL, NAMES, Row, Value, mark_best, signed

HEADLINE = ("image_auroc", "pixel_auroc", "aupro")
MAIN = (*HEADLINE, "detection_rate", "false_alarm_rate")
#: a column of these is shown only if some method has it; of the others a missing one has a reason worth telling
_OPTIONAL = ("detection_rate", "false_alarm_rate", "aupro_200", "accuracy")


def columns(results: Results) -> tuple[list[str], list[str]]:
    """Metrics of the first table, and of the one that opens on demand."""
    there = [
        metric
        for metric in NAMES
        if results.numbers.has(metric) or not (metric in _OPTIONAL or metric.startswith("type_"))
    ]
    return [m for m in there if m in MAIN], [m for m in there if m not in MAIN]


def results_tables(results: Results, metrics: list[str]) -> dict[str, list[Row]]:
    """For each training set: test set x method over some metrics; `mean` over the test sets first, best method first.

    The spread is half the distance between the smallest and the largest seed. The interval is the bootstrap
    interval over test images, its bounds averaged over seeds; the mean over test sets has none.
    """
    tables = {}
    for train in results.settings.data.train:
        rows = []
        for test in results.targets:
            found = {m: _column(results, train, test, m, results.methods) for m in metrics}
            for number, method in enumerate(results.methods):
                rows.append(Row(test, method, [found[metric][number] for metric in metrics]))
        tables[train] = rows
    return tables


def _column(
    results: Results, train: str, test: str, metric: str, methods: list[str], category: str = MEAN
) -> list[Value]:
    return mark_best([shown(results, who, train, test, metric, category) for who in methods], metric)


@dataclass(frozen=True)
class Detail:
    """The categories of one test set: for each row the values of the compared methods, one after the other."""

    test: str
    methods: list[str]
    metrics: list[str]
    rows: list[Row]


def details(results: Results) -> list[Detail]:
    """For each test set its categories: the shown method beside the baseline."""
    if results.chosen is None:
        return []
    methods = list(dict.fromkeys([results.chosen.method, results.settings.gate.baseline]))
    methods = [method for method in methods if method in results.settings.tune.methods]
    metrics, tables = columns(results)[0], []
    table = results.metrics[
        (results.metrics["train_set"] == results.train) & (results.metrics["defect"] == ALL)
    ]
    for test in results.settings.data.test:
        here = table[(table["test_set"] == test) & (table["category"] != MEAN)]
        rows = []
        for category in here["category"].drop_duplicates():
            found = [_column(results, results.train, test, m, methods, str(category)) for m in metrics]
            values = [column[number] for number in range(len(methods)) for column in found]
            rows.append(Row(test, str(category), values))
        if rows:
            tables.append(Detail(test, methods, metrics, rows))
    return tables


@dataclass(frozen=True)
class Tile:
    """A headline number of the shown method, mean over unseen test sets and seeds, and its lead."""

    name: str
    value: str
    lead: str


def tiles(results: Results) -> list[Tile]:
    """The three numbers to read first; empty where nothing was measured."""
    if results.chosen is None:
        return []
    baseline, found = results.settings.gate.baseline, []
    for metric in HEADLINE:
        rows = macro_rows(results.metrics, metric)
        rows = rows[rows["train_set"] == results.chosen.train]
        means = rows.groupby("method")["value"].mean()
        if results.chosen.method in means:
            value, lead = means[results.chosen.method], ""
            if baseline in means and baseline != results.chosen.method:
                lead = f"{signed(value - means[baseline])} against {baseline}"
            found.append(Tile(NAMES[metric], f"{value:.3f}", lead))
    return found
