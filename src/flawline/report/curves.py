"""Which lines go into which plot: ROC and per-region curves of each test set, and the course of training."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flawline.report.figures import Line, Picture, mean_curve, plot
from flawline.report.gather import Results
from flawline.report.pictures import Budget
from flawline.workspace import Cell

MAX_TRAINING_PLOTS = 18
_Curve = tuple[list[float], list[float]]


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
        valued = []
        for (method, train), seeds in _of_test(results, kind, y, test).items():
            value = results.numbers.value(method, train, test, metric)
            who = _who(results, method, train)
            chosen = results.chosen
            shown = chosen is not None and (method, train) == (chosen.method, chosen.train)
            line = _mean_line(
                list(seeds.values()),
                grid,
                who if value.value is None else f"{who}  {value.text}",
                place[method],
                2.4 if shown else 1.5,
            )
            valued.append((-1.0 if value.value is None else value.value, line))
        # The best stands first in the legend.
        lines = [line for _, line in sorted(valued, key=lambda one: -one[0])]
        if lines:
            alt = f"{name} curves on {test}: " + ", ".join(line.label.replace("  ", " ") for line in lines)
            ends = (-0.01 * end, end * 1.01), (-0.01, 1.02)
            chance = kind == "image_roc"
            pictures.append(plot(lines, alt, x_label, y_label, test, *ends, diagonal=chance))
    return pictures


def _mean_line(seeds: list[list[_Curve]], grid: np.ndarray, label: str, order: int, width: float) -> Line:
    """The mean over categories and seeds; the band runs from the lowest to the highest seed at each place.

    Args:
        seeds: for each seed the curves of its categories.
        grid: [k] where they are read.
    """
    each = np.stack([mean_curve(curves, grid) for curves in seeds])
    # From the corner (0, 0) straight up, as a step at the lowest rate.
    mean, low, high = (np.concatenate([[0.0], part]) for part in (each.mean(0), each.min(0), each.max(0)))
    band = (low.tolist(), high.tolist()) if len(seeds) > 1 else None
    x = np.concatenate([[0.0], grid]).tolist()
    return Line(x, mean.tolist(), label, order, width=width, band=band)


def _of_test(
    results: Results, kind: str, y: str, test: str
) -> dict[tuple[str, str], dict[int, list[_Curve]]]:
    """(method, training set) → seed → curves of the categories."""
    found: dict[tuple[str, str], dict[int, list[_Curve]]] = {}
    for (cell, tested), curves in results.curves.items():
        if tested == test:
            for curve in curves.get(kind, {}).values():
                seeds = found.setdefault((cell.method, cell.train), {})
                seeds.setdefault(cell.seed, []).append((curve["fpr"], curve[y]))
    return found


def _who(results: Results, method: str, train: str) -> str:
    return method if len(results.settings.data.train) == 1 else f"{method} ({train})"


@dataclass(frozen=True)
class Trained:
    """The training curves of one method on one training set; `shown`: the prompts that the page shows."""

    name: str
    shown: bool
    pictures: list[Picture]


def training_plots(results: Results, budget: Budget) -> tuple[list[Trained], int]:
    """Every recorded quantity of every learned method: thin lines for seeds, a strong one for their mean.

    The stages of a method follow each other on one axis. The shown method stands first.

    Args:
        results: whose training.
        budget: what still fits the page; reduced by what is drawn.

    Returns:
        At most MAX_TRAINING_PLOTS pictures in all, and how many more there would be.
    """
    pairs = [(method, train) for method in results.learned for train in results.settings.data.train]
    chosen = (results.chosen.method, results.chosen.train) if results.chosen else None
    pairs.sort(key=lambda pair: pair != chosen)
    found, drawn, left_out = [], 0, 0
    for pair in pairs:
        pictures = []
        for quantity in _quantities(results.training, *pair):
            # Once something did not fit, nothing more is drawn only to be thrown away.
            picture = None
            if drawn < MAX_TRAINING_PLOTS and not left_out:
                picture = _training_plot(results, *pair, quantity)
            if picture is None or picture.size > budget.left:
                left_out += 1
                continue
            budget.left -= picture.size
            drawn += 1
            pictures.append(picture)
        if pictures:
            found.append(Trained(_who(results, *pair), pair == chosen, pictures))
    return found, left_out


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
