"""The cross-data-set matrix: training sets x target sets x methods x seeds, every cell with what it was made from."""

from pathlib import Path

import pandas as pd

from flawline.evaluate.leaks import refuse_leak
from flawline.evaluate.provenance import recorded
from flawline.evaluate.tables import MEAN, read_table
from flawline.files import read_json
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace

COLUMNS = (
    "train_set", "test_set", "method", "seed", "metric", "value", "ci_low", "ci_high", "n_normal", "n_anomalous",
    "train_images", "prompts_sha256", "features_sha256", "manifest_sha256",
)  # fmt: skip
_CELL = ["train_set", "test_set", "method", "seed"]


def matrix(
    workspace: Workspace, settings: Settings, manifest: pd.DataFrame, metrics: pd.DataFrame
) -> pd.DataFrame:
    """Macro means of every cell beside the hashes of its prompt set, features and image table.

    Args:
        workspace: holds the prompt sets and evaluation folders.
        settings: which cells there are.
        manifest: the image table.
        metrics: the tidy table of all cells (results/metrics.csv, with or without its means).

    Returns:
        Columns COLUMNS, one row a cell and metric, sorted; `train_images` is the number of images that trained the
        prompts.

    Raises:
        FlawlineError: an image of a target set trained the prompts of its cell (by content, whatever its name), or a
            cell does not say what it was made from, or says something else than what is there.
    """
    rows = []
    for cell, test in cells(settings):
        target = manifest[(manifest["dataset"] == test) & (manifest["split"] == "test")]
        refuse_leak(target, workspace.prompts(cell), test, manifest)
        trained = len(read_json(workspace.prompts(cell) / "card.json")["train_sha256"])
        place = {"train_set": cell.train, "test_set": test, "method": cell.method, "seed": str(cell.seed)}
        rows.append({**place, "train_images": trained, **recorded(workspace, cell, test)})
    macro = metrics[(metrics["category"] == MEAN) & (metrics["defect"] == "all")]
    joined = macro.merge(pd.DataFrame(rows), on=_CELL, how="inner")
    number = pd.to_numeric(joined["seed"])
    joined = joined.assign(number=number).sort_values([*_CELL[:3], "number", "metric"], kind="stable")
    return joined[list(COLUMNS)].reset_index(drop=True)


def cells(settings: Settings) -> list[tuple[Cell, str]]:
    """Every (prompt set, target set) that params.yaml names."""
    return [
        (Cell(method, train, seed), test)
        for train in settings.data.train
        for test in settings.data.test
        for method in settings.tune.methods
        for seed in settings.tune.seeds
    ]


def matrix_table(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The matrix of one metric as people read it: training sets and methods down, target sets across.

    Args:
        table: from `matrix`.
        metric: for example `image_auroc`.

    Returns:
        Columns train_set, method, then a column a target set with `0.912 ± 0.010`: mean and sample standard deviation
        over the seeds (the latter left out for one seed); `–` where the metric cannot be computed.
    """
    part = table[table["metric"] == metric]
    stats = part.groupby(["train_set", "method", "test_set"])["value"].agg(["mean", "std"]).reset_index()
    stats["text"] = [
        f"{mean:.3f}" if pd.isna(std) else f"{mean:.3f} ± {std:.3f}"
        for mean, std in zip(stats["mean"], stats["std"], strict=True)
    ]
    wide = stats.pivot(index=["train_set", "method"], columns="test_set", values="text")
    every = pd.MultiIndex.from_frame(table[["train_set", "method"]].drop_duplicates())
    wide = wide.reindex(index=every, columns=sorted(table["test_set"].unique())).fillna("–").sort_index()
    wide.columns.name = None
    return wide.reset_index()


def matrix_page(table: pd.DataFrame) -> str:
    """Markdown: a table a metric, as `matrix_table` gives it."""
    lines = ["# Cross-data-set matrix", ""]
    lines += ["Rows: what trained. Columns: what was tested. Mean ± standard deviation over seeds.", ""]
    for metric in sorted(table["metric"].unique()):
        shown = matrix_table(table, metric)
        names = [str(name).replace("|", "\\|") for name in shown.columns]
        lines += [f"## {metric}", "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines += [f"| {' | '.join(str(value) for value in row)} |" for row in shown.itertuples(index=False)]
        lines.append("")
    return "\n".join(lines)


def read_matrix(path: Path) -> pd.DataFrame:
    """Read a matrix.csv.

    Raises:
        FlawlineError: the file is missing or is no such table.
    """
    names = dict.fromkeys([*_CELL, "metric", *COLUMNS[-3:]], str)
    return read_table(path, "matrix", COLUMNS, names, ("ci_low", "ci_high"))
