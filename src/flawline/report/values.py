"""One number of the page: found in results/metrics.csv, as text, with what is known of its uncertainty."""

from dataclasses import dataclass, replace

import pandas as pd

from flawline.evaluate.tables import MEAN

ALL = "all"
NAMES = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "detection_rate": "Detected",
    "false_alarm_rate": "False alarms",
    "image_ap": "Image AP",
    "image_f1_max": "Image F1-max",
    "pixel_ap": "Pixel AP",
    "pixel_f1_max": "Pixel F1-max",
    "aupro_200": "AUPRO-200",
    "accuracy": "Right at the threshold",
    "type_accuracy": "Type named rightly",
    "type_auroc": "Type AUROC",
    "type_ap": "Type AP",
    "type_f1": "Type F1",
}
#: at the card's threshold: a method that calls everything defective detects everything, so neither is a contest
UNRANKED = ("detection_rate", "false_alarm_rate")


@dataclass(frozen=True)
class Value:
    """One cell of a table.

    Attributes:
        text: the mean over seeds. value: the same as a number, None where it is absent.
        spread: half the distance between the smallest and the largest seed.
        low, high: bootstrap interval over test images, its bounds averaged over seeds.
        best: whether it is the best of the compared methods.
        heat: 0..100, how full its colour is.
        why: why it is absent, or of what it is the mean where something is left out.
    """

    text: str = "–"
    value: float | None = None
    spread: str = ""
    low: str = ""
    high: str = ""
    best: bool = False
    heat: int = 0
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table: its group (test set, training set or category), its name, and its values."""

    group: str
    name: str
    values: list[Value]


class Numbers:
    """results/metrics.csv, to be asked by place."""

    _KEYS = ("method", "train_set", "test_set", "metric", "category", "defect")

    def __init__(self, metrics: pd.DataFrame) -> None:
        keys = list(self._KEYS)
        mean, seeds = metrics[metrics["seed"] == MEAN], metrics[metrics["seed"] != MEAN]
        over = seeds.groupby(keys)[["ci_low", "ci_high"]].mean()
        over = over.assign(seeds=seeds.groupby(keys).size()).rename(
            columns={"ci_low": "low", "ci_high": "high"}
        )
        columns = ["value", "ci_low", "ci_high", "n_anomalous"]
        joined = mean.set_index(keys)[columns].join(over)
        self._rows = {tuple(row[:6]): tuple(row[6:]) for row in joined.reset_index().itertuples(index=False)}

    def value(
        self, method: str, train: str, test: str, metric: str, category: str = MEAN, defect: str = ALL
    ) -> Value:
        """The mean over seeds; `Value()` where it is absent."""
        found = self._rows.get((method, train, test, metric, category, defect))
        if found is None:
            return Value()
        value, lowest, highest, _, low, high, seeds = found
        spread = f"{(highest - lowest) / 2:.3f}" if seeds > 1 else ""
        known = not (pd.isna(low) or pd.isna(high))
        bounds = (f"{low:.3f}", f"{high:.3f}") if known else ("", "")
        return Value(f"{value:.3f}", float(value), spread, *bounds)

    def images(self, method: str, train: str, test: str, metric: str, category: str, defect: str) -> int:
        """How many defective images a number is about; 0 where it is absent."""
        found = self._rows.get((method, train, test, metric, category, defect))
        return int(found[3]) if found else 0

    def has(self, metric: str) -> bool:
        """Whether the metric was computed anywhere."""
        return any(key[3] == metric for key in self._rows)

    def methods_with(self, metric: str) -> set[str]:
        """Methods of which the metric was computed somewhere."""
        return {key[0] for key in self._rows if key[3] == metric}


def mark_best(column: list[Value], metric: str) -> list[Value]:
    """The same values with the best marked: as printed, so that equal texts are marked alike; alone, nothing is."""
    known = [one.text for one in column if one.value is not None]
    if metric in UNRANKED or len(known) < 2:
        return column
    return [replace(one, best=one.text == max(known)) for one in column]


def heat(value: float | None, low: float) -> int:
    """0 at `low` (chance) and below, 100 at 1."""
    return 0 if value is None else round(100 * min(1.0, max(0.0, (value - low) / (1 - low))))


def chance(metric: str) -> float:
    """The value that guessing reaches: 0.5 for areas under ROC curves, else 0."""
    return 0.5 if metric.endswith("auroc") else 0.0


def signed(value: float) -> str:
    """`+0.031`, `−0.004`: with a minus sign as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")
