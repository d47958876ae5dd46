"""Everything the page shows, read from the files that the stages and the gate left.

What is optional (a contact sheet, training curves, decisions) is empty here when its file is absent; what is
broken is an error that names the file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flawline.errors import FlawlineError
from flawline.evaluate.tables import MEAN, read_metrics
from flawline.files import read_json, sha256_file
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace

_DECISION = re.compile(r"^(\d+)-[a-z]+\.json$")
LEAD = "image_auroc"


@dataclass(frozen=True)
class Results:
    """What the page is made of.

    Attributes:
        settings: the description of the run.
        metrics: results/metrics.csv; `results_hash` its SHA-256, as decisions name it.
        cards: the card of every prompt set that is there.
        learned: methods with parameters that were learned, best first.
        chosen: the cell whose pictures are shown, None where nothing was evaluated.
        checks: out/checks/summary.json or {}.
        decisions: newest first, each with `number`.
        curves: curves.json of every evaluated (cell, test set).
        training: training curves of every tuned cell.
        tokens: nearest words of the chosen cell's learned tokens.
    """

    settings: Settings
    metrics: pd.DataFrame
    results_hash: str
    cards: dict[Cell, dict[str, Any]]
    learned: list[str]
    chosen: Cell | None
    checks: dict[str, Any]
    decisions: list[dict[str, Any]]
    curves: dict[tuple[Cell, str], dict[str, Any]]
    training: dict[Cell, pd.DataFrame]
    tokens: dict[str, list[list[tuple[str, float]]]]


def gather(workspace: Workspace, settings: Settings) -> Results:
    """Read all inputs of the report.

    Raises:
        FlawlineError: results/metrics.csv is missing, or any input is broken.
    """
    metrics = read_metrics(workspace.metrics)
    cells = [
        Cell(method, train, seed)
        for method in settings.tune.methods
        for train in settings.data.train
        for seed in settings.tune.seeds
    ]
    cards = {cell: card for cell in cells if (card := _json(workspace.prompts(cell) / "card.json"))}
    learned = _best_first({cell.method for cell, card in cards.items() if _parameters(card)}, metrics)
    decisions = _decisions(workspace)
    chosen = _choose(cells, learned or _best_first(set(settings.tune.methods), metrics), metrics, decisions)
    places = [(cell, test) for cell in cells for test in settings.data.test]
    return Results(
        settings=settings,
        metrics=metrics,
        results_hash=sha256_file(workspace.metrics),
        cards=cards,
        learned=learned,
        chosen=chosen,
        checks=_json(workspace.checks / "summary.json"),
        decisions=decisions,
        curves={p: c for p in places if (c := _json(workspace.evaluation(*p) / "curves.json"))},
        training={cell: t for cell in cells if (t := _training(workspace.tuning(cell))) is not None},
        tokens=_tokens(workspace.tuning(chosen) / "tokens.json") if chosen else {},
    )


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no file."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise FlawlineError(f"{path} does not hold a JSON object", "delete it and run its stage again")
    return value


def _parameters(card: dict[str, Any]) -> int:
    learned = card.get("learned")
    return int(learned.get("parameters", 0)) if isinstance(learned, dict) else 0


def macro_rows(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The macro rows of one metric: real seeds, real test sets."""
    return metrics[
        (metrics["metric"] == metric)
        & (metrics["category"] == MEAN)
        & (metrics["defect"] == "all")
        & (metrics["seed"] != MEAN)
        & (metrics["test_set"] != MEAN)
    ]


def _best_first(methods: set[str], metrics: pd.DataFrame) -> list[str]:
    values = macro_rows(metrics, LEAD).groupby("method")["value"].mean().to_dict()
    return sorted(methods, key=lambda method: (-values.get(method, -1.0), method))


def _choose(
    cells: list[Cell], methods: list[str], metrics: pd.DataFrame, decisions: list[dict[str, Any]]
) -> Cell | None:
    """Whose pictures to show: what the gate last looked at, else the middle seed of the best method."""
    for decision in decisions[:1]:
        given = decision.get("challenger") or {}
        named = Cell(str(given.get("method")), str(given.get("train_set")), int(given.get("seed") or 0))
        if named in cells:
            return named
    if not methods:
        return None
    rows = macro_rows(metrics, LEAD)
    means = rows[rows["method"] == methods[0]].groupby(["train_set", "seed"])["value"].mean().reset_index()
    # The lower of two in the middle: never the luckiest of several seeds.
    keys = zip(means["value"], means["train_set"], means["seed"].astype(int), strict=True)
    ranked = sorted(keys)
    mine = [cell for cell in cells if cell.method == methods[0]]
    if not ranked:
        return mine[0] if mine else None
    _, train, seed = ranked[(len(ranked) - 1) // 2]
    return Cell(methods[0], train, seed)


def _decisions(workspace: Workspace) -> list[dict[str, Any]]:
    found = []
    if workspace.decisions.is_dir():
        for path in workspace.decisions.iterdir():
            if match := _DECISION.match(path.name):
                found.append({"number": int(match.group(1)), **_json(path)})
    return sorted(found, key=lambda decision: -decision["number"])


def _training(folder: Path) -> pd.DataFrame | None:
    path = folder / "curves.csv"
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype={"stage": str, "quantity": str}, keep_default_na=False)
        table = table.astype({"step": float, "value": float})
        return table[["stage", "step", "quantity", "value"]]
    except (pd.errors.EmptyDataError, pd.errors.ParserError, KeyError, ValueError) as error:
        raise FlawlineError(f"{path} is not a table of training curves: {error}", "tune again") from error


def _tokens(path: Path) -> dict[str, list[list[tuple[str, float]]]]:
    try:
        return {
            prompt: [[(str(word), float(likeness)) for word, likeness in near] for near in tokens]
            for prompt, tokens in _json(path).items()
        }
    except (TypeError, ValueError) as error:
        raise FlawlineError(f"{path} does not hold lists of words: {error}", "tune again") from error
