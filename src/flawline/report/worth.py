"""What the parts of a method are worth: its ablation's table, if one was run."""

from dataclasses import dataclass

import pandas as pd

from flawline.evaluate.ablation_text import change_text
from flawline.evaluate.tables import MEAN
from flawline.report.gather import Results
from flawline.report.values import signed
from flawline.variants import DEFAULT

METRICS = ("image_auroc", "pixel_auroc")
_SAME = 5e-6  # tables have six decimals


@dataclass(frozen=True)
class Worth:
    """A number of a variant: mean over seeds, their standard deviation, difference to the default; `sure`: its interval
    leaves out 0."""

    text: str = "–"
    spread: str = ""
    difference: str = ""
    low: str = ""
    high: str = ""
    sure: bool = False


@dataclass(frozen=True)
class VariantRow:
    """A variant: the part it changes, how, what it asks, and METRICS over the test sets."""

    name: str
    part: str
    change: str
    why: str
    values: list[Worth]


@dataclass(frozen=True)
class Ablation:
    """An ablation on one training set. `outdated`: its default is not the method as it stands on this page."""

    method: str
    train: str
    target: str
    seeds: int
    outdated: bool
    rows: list[VariantRow]


def ablations(results: Results) -> list[Ablation]:
    """Every ablation that was run, methods in the page's order, those that no longer run last."""
    order = {method: number for number, method in enumerate(results.methods)}
    found = []
    for method, table in sorted(results.ablations.items(), key=lambda one: order.get(one[0], len(order))):
        for train in sorted(set(table["train_set"])):
            part = table[table["train_set"] == train]
            target = MEAN if (part["test_set"] == MEAN).any() and _tests(part) > 1 else _only(part)
            means = part[(part["test_set"] == target) & (part["seed"] == MEAN)]
            names = list(dict.fromkeys(means["variant"]))
            rows = [_row(results, method, name, means[means["variant"] == name]) for name in names]
            seeds = len(set(part["seed"]) - {MEAN})
            found.append(Ablation(method, train, target, seeds, _outdated(results, method, part), rows))
    return found


def _tests(part: pd.DataFrame) -> int:
    return len(set(part["test_set"]) - {MEAN})


def _only(part: pd.DataFrame) -> str:
    return str(sorted(set(part["test_set"]) - {MEAN} or {MEAN})[0])


def _row(results: Results, method: str, name: str, means: pd.DataFrame) -> VariantRow:
    variant = results.settings.ablations.get(method, {}).get(name)
    told = (variant.part, change_text(variant.change), variant.why) if variant else ("", "", "")
    values = []
    for metric in METRICS:
        rows = means[means["metric"] == metric]
        values.append(Worth() if rows.empty else _worth(rows.iloc[0], name == DEFAULT))
    return VariantRow(name, *told, values)


def _worth(row: "pd.Series[float]", default: bool) -> Worth:
    spread = "" if pd.isna(row["spread"]) else f"{row['spread']:.3f}"
    if default or pd.isna(row["difference"]):
        return Worth(f"{row['value']:.3f}", spread)
    known = not (pd.isna(row["ci_low"]) or pd.isna(row["ci_high"]))
    return Worth(
        f"{row['value']:.3f}",
        spread,
        signed(float(row["difference"])),
        signed(float(row["ci_low"])) if known else "",
        signed(float(row["ci_high"])) if known else "",
        bool(row["ci_low"] > 0 or row["ci_high"] < 0),
    )


def _outdated(results: Results, method: str, part: pd.DataFrame) -> bool:
    """Whether the default's numbers of common seeds and test sets differ from those of this page."""
    keys = ["train_set", "test_set", "seed", "metric"]
    ours = results.metrics[(results.metrics["method"] == method) & (results.metrics["seed"] != MEAN)]
    ours = ours[(ours["category"] == MEAN) & (ours["defect"] == "all")]
    default = part[(part["variant"] == DEFAULT) & part["metric"].isin(METRICS)]
    joined = default.merge(ours, on=keys, suffixes=("", "_now"))
    return bool(((joined["value"] - joined["value_now"]).abs() > _SAME).any())
