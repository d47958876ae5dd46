"""All cells side by side: the joined table, its means, and the short table people read first."""

from pathlib import Path

import pandas as pd

from flawline.evaluate.novelty import NOVEL, SEEN
from flawline.evaluate.significance import OnTest, compare_methods, on_test
from flawline.evaluate.stored import read_stored, require_same_images
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

    Over test sets: the mean of their macro rows (category `mean`; of single types only `seen types` and `novel
    types`), per seed, without an interval, because no cell knows the others' resamples. Over seeds: the mean, with
    the smallest and largest seed value as bounds. Where a metric is absent in a test set (no masks), the mean is over
    the others, as n_normal and n_anomalous show.
    """
    macro = table[(table["category"] == MEAN) & table["defect"].isin(["all", SEEN, NOVEL])]
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


def paired_tests(
    workspace: Workspace, settings: Settings, manifest: pd.DataFrame, metrics: pd.DataFrame
) -> pd.DataFrame:
    """The whole of results/tests.csv: each method against the baseline and the best other, on every test set.

    Args:
        workspace: holds the evaluation folders.
        settings: cells, resamples, confidence, and the baseline (`gate.baseline`).
        manifest: the image table; names groups of images.
        metrics: the tidy table of all cells.

    Raises:
        FlawlineError: an evaluation is missing or broken, or two are not of the same images.
    """
    macro = metrics[(metrics["category"] == MEAN) & (metrics["defect"] == "all") & (metrics["seed"] != MEAN)]
    values = macro.groupby(["method", "train_set", "test_set", "metric"])["value"].mean().to_dict()
    names = sorted(set(macro["metric"]))
    tables = []
    for train in settings.data.train:
        pairs: dict[tuple[str, str], OnTest] = {}
        for test in settings.data.test:
            first: tuple[OnTest, Path] | None = None
            for method in settings.tune.methods:
                folders = [
                    workspace.evaluation(Cell(method, train, seed), test) for seed in settings.tune.seeds
                ]
                stored = read_stored(folders)
                exact = {
                    name: values[key] for name in names if (key := (method, train, test, name)) in values
                }
                one = on_test(stored, test, settings.evaluate, manifest, exact)
                first = first or (one, folders[0])
                require_same_images(first[0].images, one.images, first[1], folders[0])
                pairs[method, test] = one
        tables.append(compare_methods(pairs, train, settings.gate.baseline, settings.evaluate.confidence))
    return pd.concat(tables, ignore_index=True)


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
