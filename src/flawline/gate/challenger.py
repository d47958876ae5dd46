"""Which of the prompt sets of a retraining goes before the gate."""

from collections.abc import Collection

import pandas as pd

from flawline.workspace import Cell

MEAN = "mean"


def choose_challenger(metrics: pd.DataFrame, metric: str, learned: Collection[str]) -> Cell | None:
    """The prompt set that stands for this retraining.

    Of the learned methods (and training sets) the one with the best mean of `metric` over seeds and test
    sets; of it the seed in the middle, not the best one: picking the best of n seeds by the test sets and
    then testing it on the same test sets would promote luck. With an even number of seeds it is the lower of
    the middle two; among equals the lower seed.

    Args:
        metrics: results/metrics.csv (`flawline.evaluate.tables.read_metrics`).
        metric: for example image_auroc.
        learned: names of the methods that learn.

    Returns:
        None where no learned method has that metric.
    """
    rows = metrics[
        (metrics["metric"] == metric)
        & (metrics["category"] == MEAN)
        & (metrics["defect"] == "all")
        & (metrics["seed"] != MEAN)
        & (metrics["test_set"] != MEAN)
        & metrics["method"].isin(sorted(learned))
    ]
    if rows.empty:
        return None
    # A method that lacks a test set must not look better for it: only test sets that all have count.
    table = rows.pivot_table(index=["method", "train_set", "seed"], columns="test_set", values="value")
    values = table.dropna(axis="columns").mean(axis="columns")
    if values.empty or values.isna().all():
        return None
    means = values.groupby(level=["method", "train_set"]).mean()
    method, train = min(means.index, key=lambda key: (-means[key], key))
    seeds = sorted((float(value), int(seed)) for seed, value in values[method, train].items())
    middle = seeds[(len(seeds) - 1) // 2][0]
    return Cell(method, train, min(seed for value, seed in seeds if value == middle))
