"""What the parts of a method are worth: every variant held against the unchanged method on the same images.

The comparison is paired twice: a variant is compared with the default of the same seed (same start, same draws), and
the interval of a difference resamples the test images for both sides at once, averaged over the seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.evaluate.bootstrap import interval
from flawline.evaluate.stored import compare_folders
from flawline.evaluate.tables import MEAN, read_metrics
from flawline.settings import EvaluateSettings
from flawline.variants import DEFAULT

COLUMNS = (
    "method", "variant", "train_set", "test_set", "metric", "seed",
    "value", "spread", "difference", "difference_spread", "ci_low", "ci_high",
)  # fmt: skip
_KEYS = ["variant", "train_set", "test_set", "metric", "seed"]
_PAIRED = ("image_auroc", "pixel_auroc")


@dataclass(frozen=True)
class Evaluated:
    """The evaluation folder of one variant, training set, seed and test set."""

    variant: str
    train_set: str
    seed: int
    test_set: str
    folder: Path


def ablation_table(
    method: str,
    cells: Sequence[Evaluated],
    settings: EvaluateSettings,
    manifest: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The tidy table of an ablation (COLUMNS): a row a seed, and a row `mean` over the seeds.

    Rows are macro means over the categories, for each test set and for `mean`, the mean over the test sets. `value` is
    the metric; `difference` is value - the default's of the same seed (0 for the default itself, empty where the
    default lacks the metric). Only the rows over
    seeds have `spread` and `difference_spread`, the sample standard deviations over the seeds (empty for a single
    seed), and, for image and pixel AUROC, `ci_low` and `ci_high`: the interval of the mean difference by a paired
    bootstrap over the test images.

    Args:
        method: whose variants these are.
        cells: what was evaluated; must hold `default` for every training set, seed and test set of a variant.
        settings: resamples, confidence and seed of the intervals.
        manifest: the image table; images of one group are drawn together.

    Raises:
        FlawlineError: a folder is missing or broken, or a variant has no default to be compared with.
    """
    places = {(c.variant, c.train_set, c.seed, c.test_set) for c in cells}
    lone = sorted((v, *place) for v, *place in places if (DEFAULT, *place) not in places)
    if lone:
        variant, *where = lone[0]
        raise FlawlineError(
            f"variant '{variant}' has no default to be compared with ({', '.join(map(str, where))})",
            "run the ablation again",
        )
    values = pd.concat([_macro(cell) for cell in cells], ignore_index=True)
    over_tests = values.groupby(["variant", "train_set", "metric", "seed"], as_index=False)["value"].mean()
    values = pd.concat([values, over_tests.assign(test_set=MEAN)], ignore_index=True)
    beside = values[values["variant"] == DEFAULT].drop(columns="variant").rename(columns={"value": "default"})
    values = values.merge(beside, how="left", on=_KEYS[1:])
    values = values.assign(difference=values["value"] - values["default"])
    seeds = values.assign(seed=values["seed"].astype(str))
    means = values.groupby(_KEYS[:-1], as_index=False).agg(
        value=("value", "mean"),
        spread=("value", "std"),
        difference=("difference", "mean"),
        difference_spread=("difference", "std"),
    )
    means = means.assign(seed=MEAN).merge(_intervals(cells, settings, manifest), how="left", on=_KEYS[:-1])
    table = pd.concat([seeds, means], ignore_index=True).assign(method=method)
    return _in_order(table, list(dict.fromkeys(cell.variant for cell in cells)))


def _macro(cell: Evaluated) -> pd.DataFrame:
    """variant, train_set, test_set, metric, seed, value: the rows over all categories of one cell."""
    table = read_metrics(cell.folder / "metrics.csv")
    rows = table[(table["category"] == MEAN) & (table["defect"] == "all")]
    found = rows[["metric", "value"]].reset_index(drop=True)
    return found.assign(
        variant=cell.variant, train_set=cell.train_set, test_set=cell.test_set, seed=cell.seed
    )


def _in_order(table: pd.DataFrame, variants: list[str]) -> pd.DataFrame:
    """Variants as given, test sets and seeds with `mean` last."""
    ranked = table.assign(
        at=table["variant"].map(variants.index),
        last=table["test_set"] == MEAN,
        number=pd.to_numeric(table["seed"], errors="coerce").fillna(float("inf")),
    )
    ranked = ranked.sort_values(["train_set", "at", "last", "test_set", "metric", "number"], kind="stable")
    return ranked.reindex(columns=list(COLUMNS)).reset_index(drop=True)


def _intervals(
    cells: Sequence[Evaluated], settings: EvaluateSettings, manifest: pd.DataFrame | None
) -> pd.DataFrame:
    """ci_low and ci_high of each variant's mean difference, for each test set and over them."""
    by_place = {(c.variant, c.train_set, c.test_set, c.seed): c.folder for c in cells}
    rows = []
    for variant, train in sorted({(c.variant, c.train_set) for c in cells if c.variant != DEFAULT}):
        mine = [c for c in cells if (c.variant, c.train_set) == (variant, train)]
        for metric in _PAIRED:
            drawn = {}
            for test in sorted({c.test_set for c in mine}):
                seeds = sorted(c.seed for c in mine if c.test_set == test)
                sides = [
                    (by_place[variant, train, test, s], by_place[DEFAULT, train, test, s]) for s in seeds
                ]
                draw = (settings.bootstrap, derived_seed("ablation", settings.seed, test, metric))
                pairs = [compare_folders(*two, metric, *draw, manifest) for two in sides]
                # The same resamples for every seed: the k-th draws of all seeds are of the same images.
                known = [pair.differences for pair in pairs if pair is not None]
                if known:
                    drawn[test] = np.mean(known, axis=0)
            if drawn:  # images of different test sets are drawn independently, so k-th draws may be averaged
                drawn[MEAN] = np.mean(list(drawn.values()), axis=0)
            for test, differences in drawn.items():
                rows.append([variant, train, test, metric, *interval(differences, settings.confidence)])
    return pd.DataFrame(rows, columns=[*_KEYS[:-1], "ci_low", "ci_high"])
