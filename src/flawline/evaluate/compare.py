"""All cells side by side: the joined table, its means, and the short table people read first."""

import pandas as pd

from flawline.evaluate.tables import COLUMNS, MEAN, in_order, read_metrics
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace

HEADLINE = ("image_auroc", "pixel_auroc", "aupro")


def compare(workspace: Workspace, settings: Settings) -> pd.DataFrame:
    """The whole of results/metrics.csv: every cell that params.yaml names, with the means.

    Raises:
        FlawlineError: a cell has not been evaluated.
    """
    tables = []
    for method in settings.tune.methods:
        for train in settings.data.train:
            for seed in settings.tune.seeds:
                for test in settings.data.test:
                    folder = workspace.evaluation(Cell(method, train, seed), test)
                    tables.append(read_metrics(folder / "metrics.csv"))
    return with_means(pd.concat(tables, ignore_index=True))


def with_means(table: pd.DataFrame) -> pd.DataFrame:
    """Add the rows over test sets (test_set `mean`) and then the rows over seeds (seed `mean`).

    Over test sets: the mean of their macro rows (category `mean`), per seed, without an interval, because no
    cell knows the others' resamples. Over seeds: the mean, with the smallest and largest seed value as
    bounds. Where a metric is absent in a test set (no masks), the mean is over the others, as n_normal and
    n_anomalous show.
    """
    macro = table[(table["category"] == MEAN) & (table["defect"] == "all")]
    keys = ["method", "seed", "train_set", "category", "defect", "metric"]
    over_tests = macro.groupby(keys, as_index=False).agg(
        value=("value", "mean"), n_normal=("n_normal", "sum"), n_anomalous=("n_anomalous", "sum")
    )
    over_tests = over_tests.assign(test_set=MEAN, ci_low=float("nan"), ci_high=float("nan"))
    table = pd.concat([table, over_tests[list(COLUMNS)]], ignore_index=True)
    keys = ["method", "train_set", "test_set", "category", "defect", "metric"]
    over_seeds = table.groupby(keys, as_index=False).agg(
        ci_low=("value", "min"),
        ci_high=("value", "max"),
        value=("value", "mean"),
        n_normal=("n_normal", "first"),
        n_anomalous=("n_anomalous", "first"),
    )
    over_seeds = over_seeds.assign(seed=MEAN)
    return in_order(pd.concat([table, over_seeds[list(COLUMNS)]], ignore_index=True))


def leaderboard(metrics: pd.DataFrame) -> pd.DataFrame:
    """Method x test set with the macro image AUROC, pixel AUROC and AUPRO as `0.912 ± 0.010`.

    The number is the mean over seeds, the spread their standard deviation (left out for a single seed); an
    absent metric is `–`. Ordered by train set, test set (`mean` last), then best image AUROC first.

    Args:
        metrics: results/metrics.csv, from `compare` or `read_metrics`.
    """
    macro = metrics[(metrics["category"] == MEAN) & (metrics["defect"] == "all") & (metrics["seed"] != MEAN)]
    keys = ["train_set", "test_set", "method"]
    grouped = macro[macro["metric"].isin(HEADLINE)].groupby([*keys, "metric"])["value"]
    stats = grouped.agg(["mean", "std"]).reset_index()
    stats["text"] = [_plus_minus(mean, std) for mean, std in zip(stats["mean"], stats["std"], strict=True)]
    texts = (
        stats.pivot(index=keys, columns="metric", values="text").reindex(columns=list(HEADLINE)).fillna("–")
    )
    best = stats[stats["metric"] == HEADLINE[0]].set_index(keys)["mean"].reindex(texts.index)
    board = texts.assign(best=best).reset_index()
    board = board.assign(last=board["test_set"] == MEAN)
    board = board.sort_values(
        ["train_set", "last", "test_set", "best", "method"], ascending=[True, True, True, False, True]
    )
    board.columns.name = None
    return board[["train_set", "test_set", "method", *HEADLINE]].reset_index(drop=True)


def _plus_minus(mean: float, std: float) -> str:
    return f"{mean:.3f}" if pd.isna(std) else f"{mean:.3f} ± {std:.3f}"
