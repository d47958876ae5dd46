"""Which lines go into which plot: ROC and per-region curves of each test set, and the course of training."""

import numpy as np
import pandas as pd

from flawline.evaluate.tables import MEAN
from flawline.report.figures import Line, Picture, mean_curve, plot
from flawline.report.gather import Results
from flawline.workspace import Cell

MAX_TRAINING_PLOTS = 12


def orders(results: Results) -> dict[str, int]:
    """A place for each method in colours and dashes; the gate's baseline has 0."""
    baseline = results.settings.gate.baseline
    others = [method for method in results.settings.tune.methods if method != baseline]
    return {baseline: 0} | {method: number for number, method in enumerate(others, 1)}


def roc_plots(results: Results) -> list[Picture]:
    """For each test set the image ROC curves, mean over categories and seeds."""
    return _plots(results, "image_roc", "tpr", "image_auroc", "image ROC", "true-positive rate", 1.0)


def pro_plots(results: Results) -> list[Picture]:
    """For each test set the per-region overlap against the false-positive rate of pixels, up to the limit."""
    limit = results.settings.evaluate.pro_limit
    return _plots(results, "pro", "pro", "aupro", "per-region", "mean overlap with defect regions", limit)


def _plots(
    results: Results, kind: str, y: str, metric: str, name: str, y_label: str, end: float
) -> list[Picture]:
    grid, pictures, place = np.linspace(0, end, 201), [], orders(results)
    x_label = "false-positive rate" + (" of good pixels" if kind == "pro" else "")
    for test in results.settings.data.test:
        lines = []
        for (method, train), curves in _of_test(results, kind, y, test).items():
            value = _value(results.metrics, method, train, test, metric)
            who = _who(results, method, train)
            label = who if value is None else f"{who}  {value:.3f}"
            # From the corner (0, 0) straight up, as a step at the lowest rate.
            height = np.concatenate([[0.0], mean_curve(curves, grid)])
            lines.append(Line(np.concatenate([[0.0], grid]).tolist(), height.tolist(), label, place[method]))
        if lines:
            alt = f"{name} curves on {test}: " + ", ".join(line.label.replace("  ", " ") for line in lines)
            ends = (-0.01 * end, end * 1.01), (-0.01, 1.02)
            chance = kind == "image_roc"
            pictures.append(plot(lines, alt, x_label, y_label, test, *ends, diagonal=chance))
    return pictures


def _of_test(
    results: Results, kind: str, y: str, test: str
) -> dict[tuple[str, str], list[tuple[list[float], list[float]]]]:
    found: dict[tuple[str, str], list[tuple[list[float], list[float]]]] = {}
    for (cell, tested), curves in results.curves.items():
        if tested == test:
            for curve in curves.get(kind, {}).values():
                found.setdefault((cell.method, cell.train), []).append((curve["fpr"], curve[y]))
    return found


def _who(results: Results, method: str, train: str) -> str:
    return method if len(results.settings.data.train) == 1 else f"{method} ({train})"


def _value(metrics: pd.DataFrame, method: str, train: str, test: str, metric: str) -> float | None:
    rows = metrics[
        (metrics["method"] == method)
        & (metrics["train_set"] == train)
        & (metrics["test_set"] == test)
        & (metrics["metric"] == metric)
        & (metrics["category"] == MEAN)
        & (metrics["defect"] == "all")
        & (metrics["seed"] == MEAN)
    ]
    return float(rows["value"].iloc[0]) if len(rows) else None


def training_plots(results: Results) -> tuple[list[Picture], int]:
    """Every recorded quantity of every learned method: thin lines for seeds, a strong one for their mean.

    The stages of a method follow each other on one axis.

    Returns:
        At most MAX_TRAINING_PLOTS pictures, and how many more there would be.
    """
    wanted = [
        (method, train, quantity)
        for method in results.learned
        for train in results.settings.data.train
        for quantity in _quantities(results.training, method, train)
    ]
    pictures = [_training_plot(results, *one) for one in wanted[:MAX_TRAINING_PLOTS]]
    return pictures, max(0, len(wanted) - MAX_TRAINING_PLOTS)


def _quantities(training: dict[Cell, pd.DataFrame], method: str, train: str) -> list[str]:
    """Quantities in the order in which they were recorded."""
    found: dict[str, None] = {}
    for cell, table in training.items():
        if (cell.method, cell.train) == (method, train):
            found.update(dict.fromkeys(map(str, table["quantity"].drop_duplicates())))
    return list(found)


def _one_axis(table: pd.DataFrame) -> pd.DataFrame:
    """Training curves with the steps of each stage counted on from the stage before."""
    lengths = table.groupby("stage", sort=False)["step"].max() + 1
    starts = lengths.cumsum() - lengths
    return table.assign(step=table["step"] + table["stage"].map(starts))


def _training_plot(results: Results, method: str, train: str, quantity: str) -> Picture:
    order, lines, runs = orders(results)[method], [], []
    stages: dict[str, None] = {}
    for cell, table in results.training.items():
        if (cell.method, cell.train) == (method, train):
            rows = _one_axis(table)
            rows = rows[rows["quantity"] == quantity].sort_values("step")
            stages.update(dict.fromkeys(map(str, rows["stage"])))
            rows = rows[np.isfinite(rows["value"])]
            if len(rows):
                runs.append(rows.set_index("step")["value"])
                lines.append(Line(rows["step"].tolist(), rows["value"].tolist(), "", order, False, False))
    if len(runs) > 1:
        mean = pd.concat(runs, axis=1).mean(axis=1).sort_index()
        lines.append(Line(mean.index.tolist(), mean.tolist(), "", order, True, False))
    elif lines:
        lines = [Line(lines[0].x, lines[0].y, "", order, True, False)]
    told = next(iter(stages)) if len(stages) == 1 else f"{len(stages)} stages"
    title = f"{_who(results, method, train)} · {quantity}" + (f" · {told}" if told else "")
    alt = f"{quantity} of {method} tuned on {train}, {told}, over the steps, {len(runs)} seeds"
    return plot(lines, alt, "step", quantity, title)
