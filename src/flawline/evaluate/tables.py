"""The tidy metrics table: its columns, its order and its exact text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from flawline.errors import FlawlineError
from flawline.files import write_text

COLUMNS = (
    "method", "seed", "train_set", "test_set", "category", "defect", "metric",
    "value", "ci_low", "ci_high", "n_normal", "n_anomalous",
)  # fmt: skip
KEYS = COLUMNS[:7]
MEAN = "mean"


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in one order: `mean` after real names, `all` before the defect types, seeds as numbers."""
    seed = pd.to_numeric(table["seed"], errors="coerce").fillna(float("inf"))
    after = {f"{key}_after": table[key] == MEAN for key in ("test_set", "category")}
    after["defect_after"] = table["defect"] != "all"
    keys = ["method", "train_set", "test_set_after", "test_set", "seed_number"]
    keys += ["category_after", "category", "defect_after", "defect", "metric"]
    ordered = table.assign(seed_number=seed, **after).sort_values(keys, kind="stable")
    return ordered[list(COLUMNS)].reset_index(drop=True)


def write_metrics(path: Path, table: pd.DataFrame) -> None:
    """Write the table as CSV: sorted, six decimals, empty where a bound is unknown, Unix line ends."""
    write_table(path, in_order(table))


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a metrics table; seed stays text because `mean` stands among the seeds.

    Raises:
        FlawlineError: the file is missing or lacks a column.
    """
    return read_table(path, "metrics table", COLUMNS, dict.fromkeys(KEYS, str), ("ci_low", "ci_high"))


def read_table(
    path: Path, what: str, columns: Sequence[str], types: Mapping[str, type], may_lack: Sequence[str] = ()
) -> pd.DataFrame:
    """Read one of the house's CSV tables.

    Args:
        path: the file.
        what: its kind, for messages.
        columns: those it must have; the answer has these in this order.
        types: of columns that are not left to pandas.
        may_lack: number columns that may be empty.

    Raises:
        FlawlineError: the file is missing, is no such table or lacks a column.
    """
    try:
        # A category or type may be called "NA" or "null": names are never missing values.
        table = pd.read_csv(
            path,
            dtype=dict(types),
            na_values={column: [""] for column in may_lack},
            keep_default_na=False,
        )
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing", "run the stage that makes it (dvc repro)") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise FlawlineError(
            f"{path} is not a {what}: {error}", "delete it and run its stage again"
        ) from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise FlawlineError(f"{path} lacks the column {missing[0]}", "delete it and run its stage again")
    return table[list(columns)]


def write_table(path: Path, table: pd.DataFrame, number: str = "%.6f") -> None:
    """Write a table as CSV in its order: numbers in one format, empty where unknown, Unix line ends."""
    write_text(path, table.to_csv(index=False, float_format=number, lineterminator="\n"))
