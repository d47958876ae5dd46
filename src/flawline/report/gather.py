"""Everything the page shows, read from the files that the stages and the gate left.

What is optional (a contact sheet, training curves, decisions) is empty here when its file is absent; what is
broken is an error that names the file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from flawline.data.vocabulary import load_vocabulary
from flawline.evaluate.novelty import seen_words
from flawline.evaluate.tables import MEAN, read_metrics
from flawline.files import read_parquet, sha256_file
from flawline.report import sources
from flawline.report.values import Numbers
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace

LEAD = "image_auroc"
Place = tuple[Cell, str]


@dataclass(frozen=True)
class Results:
    """What the page is made of.

    Attributes:
        settings: the description of the run.
        metrics: results/metrics.csv; `results_hash` its SHA-256, as decisions name it; `numbers` the same to ask.
        methods: all methods of the run, the best mean image AUROC first.
        cards: the card of every prompt set that is there.
        learned: methods with parameters that were learned, best first.
        shots: of few-shot methods, how many good images of each product they look at.
        chosen: the cell whose pictures are shown, None where nothing was evaluated.
        checks: out/checks/summary.json or {}.
        decisions: newest first, each with `number`.
        curves: curves.json of every evaluated (cell, test set).
        training: training curves of every tuned cell.
        tokens: nearest words of the chosen cell's learned tokens.
        tests, matrix: results/tests.csv and matrix.csv, None where absent.
        confusions: confusion.csv of every evaluated (cell, test set) that has one.
        absent: absent.json likewise.
        ablations: method -> results/ablations/<method>.csv.
        seen: test set -> defect folder -> whether the chosen prompts may know the type; {} where nobody can tell.
    """

    settings: Settings
    metrics: pd.DataFrame
    results_hash: str
    numbers: Numbers
    methods: list[str]
    cards: dict[Cell, dict[str, Any]]
    learned: list[str]
    shots: dict[str, int]
    chosen: Cell | None
    checks: dict[str, Any]
    decisions: list[dict[str, Any]]
    curves: dict[Place, dict[str, Any]]
    training: dict[Cell, pd.DataFrame]
    tokens: dict[str, list[list[tuple[str, float]]]]
    tests: pd.DataFrame | None
    matrix: pd.DataFrame | None
    confusions: dict[Place, pd.DataFrame]
    absent: dict[Place, dict[str, Any]]
    ablations: dict[str, pd.DataFrame]
    seen: dict[str, dict[str, bool]]

    @property
    def train(self) -> str:
        """The training set that is shown where only one is."""
        return self.chosen.train if self.chosen else self.settings.data.train[0]

    @property
    def targets(self) -> list[str]:
        """The test sets, their mean first where there are several."""
        tests = list(self.settings.data.test)
        return [MEAN, *tests] if len(tests) > 1 else tests

    @cached_property
    def reasons(self) -> dict[tuple[str, str, str, str], list[tuple[str, str, str]]]:
        """(method, training set, test set, metric) -> (category, defect, reason) of what could not be computed."""
        found: dict[tuple[str, str, str, str], list[tuple[str, str, str]]] = {}
        for (cell, test), record in self.absent.items():
            for row in record.get("absent", []):
                told = str(row["category"]), str(row["defect"]), str(row["reason"])
                for metric in row["metrics"]:
                    found.setdefault((cell.method, cell.train, test, str(metric)), []).append(told)
        return found


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
    cards = {c: card for c in cells if (card := sources.read_object(workspace.prompts(c) / "card.json"))}
    methods = _best_first(set(settings.tune.methods), metrics)
    learns = {cell.method for cell, card in cards.items() if sources.parameters(card)}
    learned = [method for method in methods if method in learns]
    decisions = sources.read_decisions(workspace)
    chosen = _choose(cells, learned or methods, metrics, decisions)
    places = [(cell, test) for cell in cells for test in settings.data.test]
    folders = {place: workspace.evaluation(*place) for place in places}
    return Results(
        settings=settings,
        metrics=metrics,
        results_hash=sha256_file(workspace.metrics),
        numbers=Numbers(metrics),
        methods=methods,
        cards=cards,
        learned=learned,
        shots={cell.method: shots for cell, card in cards.items() if (shots := sources.shots(card))},
        chosen=chosen,
        checks=sources.read_object(workspace.checks / "summary.json"),
        decisions=decisions,
        curves={p: o for p, f in folders.items() if (o := sources.read_object(f / "curves.json"))},
        training={c: t for c in cells if (t := sources.read_training(workspace.tuning(c))) is not None},
        tokens=sources.read_tokens(workspace.tuning(chosen) / "tokens.json") if chosen else {},
        tests=sources.read_optional_tests(workspace),
        matrix=sources.read_optional_matrix(workspace),
        confusions={
            p: c for p, f in folders.items() if (c := sources.read_optional_confusion(f)) is not None
        },
        absent={p: a for p, f in folders.items() if (a := sources.read_absences(f))},
        ablations=sources.read_ablations(workspace, settings),
        seen=_seen(workspace, settings, cards.get(chosen, {})) if chosen else {},
    )


def _seen(workspace: Workspace, settings: Settings, card: dict[str, Any]) -> dict[str, dict[str, bool]]:
    """Which defect folders of each test set hold types that the prompt set of this card may know."""
    if not (card and workspace.manifest.is_file() and workspace.vocabulary.is_file()):
        return {}
    manifest, vocabulary = read_parquet(workspace.manifest), load_vocabulary(workspace.vocabulary)
    seen = seen_words(manifest, vocabulary, card)
    bad = manifest[manifest["label"] == 1]
    return {
        test: {
            str(folder): vocabulary.defect_words(test, str(folder)) in seen
            for folder in sorted(bad.loc[bad["dataset"] == test, "defect"].unique())
        }
        for test in settings.data.test
    }


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
