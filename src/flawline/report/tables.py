"""The page's tables, made from results/metrics.csv: numbers as text, nothing computed anew."""

from dataclasses import dataclass

import pandas as pd

from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results, macro_rows

NAMES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1_max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1_max": "Pixel F1-max",
    "aupro": "AUPRO",
}
HEADLINE = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Value:
    """One cell of a table: the mean over seeds and how far it is to be trusted."""

    text: str
    value: float | None = None
    spread: str = ""
    low: str = ""
    high: str = ""
    best: bool = False
    heat: int = 0


ABSENT = Value("–")


@dataclass(frozen=True)
class Row:
    """One row of a table: its group (test set or category), its name, and its values."""

    group: str
    name: str
    values: list[Value]


def results_tables(results: Results) -> dict[str, list[Row]]:
    """For each training set: test set x method over all metrics; `mean` over the test sets last.

    The spread is half the distance between the smallest and the largest seed. The interval is the bootstrap
    interval over test images, its bounds averaged over seeds; the mean over test sets has none.
    """
    metrics, tests = results.metrics, results.settings.data.test
    tables = {}
    for train in results.settings.data.train:
        rows = []
        for test in [*tests, MEAN] if len(tests) > 1 else tests:
            part = _macro(metrics[(metrics["train_set"] == train) & (metrics["test_set"] == test)])
            columns = [_column(part, results.settings.tune.methods, metric) for metric in NAMES]
            for number, method in enumerate(results.settings.tune.methods):
                rows.append(Row(test, method, [column[number] for column in columns]))
        tables[train] = rows
    return tables


def _macro(part: pd.DataFrame) -> pd.DataFrame:
    return part[(part["category"] == MEAN) & (part["defect"] == "all")]


def _column(part: pd.DataFrame, methods: list[str], metric: str) -> list[Value]:
    found = [_value(part[(part["method"] == method) & (part["metric"] == metric)]) for method in methods]
    top = max((one.text for one in found if one.value is not None), default="")
    # Marked where it is the best as printed; alone, nothing is best.
    return [Value(**{**vars(one), "best": len(methods) > 1 and one.text == top}) for one in found]


def _value(rows: pd.DataFrame) -> Value:
    """The mean row with the spread of the seed rows and their mean interval."""
    mean, seeds = rows[rows["seed"] == MEAN], rows[rows["seed"] != MEAN]
    if mean.empty:
        return ABSENT
    value, low, high = (float(mean.iloc[0][key]) for key in ("value", "ci_low", "ci_high"))
    spread = f"{(high - low) / 2:.3f}" if len(seeds) > 1 else ""
    bounds = seeds["ci_low"].mean(), seeds["ci_high"].mean()
    known = not any(pd.isna(bound) for bound in bounds)
    shown = [f"{bound:.3f}" for bound in bounds] if known else ["", ""]
    return Value(f"{value:.3f}", value, spread, shown[0], shown[1])


@dataclass(frozen=True)
class HeatMap:
    """Method x test set of one metric; `heat` 0..100 of each value runs from `low` to 1."""

    metric: str
    name: str
    low: str
    columns: list[str]
    rows: list[Row]


def heat_maps(results: Results) -> list[HeatMap]:
    """One map a metric that was computed anywhere: methods (and training sets) down, targets across."""
    settings, maps = results.settings, []
    for metric, name in NAMES.items():
        part = results.metrics[results.metrics["metric"] == metric]
        if part.empty:
            continue
        low, rows = (0.5 if metric.endswith("auroc") else 0.0), []
        for train in settings.data.train:
            for method in settings.tune.methods:
                mine = _macro(part[(part["train_set"] == train) & (part["method"] == method)])
                found = [_value(mine[mine["test_set"] == test]) for test in settings.data.test]
                heated = [Value(one.text, one.value, heat=_heat(one.value, low)) for one in found]
                rows.append(Row(train, method, heated))
        maps.append(HeatMap(metric, name, f"{low:g}", list(settings.data.test), rows))
    return maps


def _heat(value: float | None, low: float) -> int:
    return 0 if value is None else round(100 * min(1.0, max(0.0, (value - low) / (1 - low))))


@dataclass(frozen=True)
class Detail:
    """Categories and defect types of one test set: for each row the values of the compared methods."""

    test: str
    methods: list[str]
    rows: list[Row]


def details(results: Results) -> list[Detail]:
    """For each test set the categories and their defect types: the shown method beside the baseline."""
    if results.chosen is None:
        return []
    baseline = results.settings.gate.baseline
    methods = list(dict.fromkeys([results.chosen.method, baseline]))
    methods = [method for method in methods if method in results.settings.tune.methods]
    metrics = results.metrics[results.metrics["train_set"] == results.chosen.train]
    tables = []
    for test in results.settings.data.test:
        part = metrics[(metrics["test_set"] == test) & (metrics["category"] != MEAN)]
        rows = []
        for (category, defect), here in part.groupby(["category", "defect"], sort=False):
            columns = [_column(here, methods, metric) for metric in HEADLINE]
            values = [column[number] for number in range(len(methods)) for column in columns]
            rows.append(Row(str(category), str(defect), values))
        if rows:
            tables.append(Detail(test, methods, rows))
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
                lead = f"{value - means[baseline]:+.3f} against {baseline}".replace("-", "−")
            found.append(Tile(NAMES[metric], f"{value:.3f}", lead))
    return found
