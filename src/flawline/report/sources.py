"""The report's inputs that may be absent: nothing where there is no file, an error where it is broken."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from flawline.errors import FlawlineError
from flawline.evaluate.ablation import COLUMNS as ABLATION_COLUMNS
from flawline.evaluate.absent import ABSENT
from flawline.evaluate.confusion import read_confusion
from flawline.evaluate.matrix import read_matrix
from flawline.evaluate.significance import read_tests
from flawline.evaluate.tables import read_table
from flawline.files import read_json
from flawline.settings import Settings
from flawline.workspace import Workspace

_DECISION = re.compile(r"^(\d+)-[a-z]+\.json$")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no file.

    Raises:
        FlawlineError: it holds something else.
    """
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise FlawlineError(f"{path} does not hold a JSON object", "delete it and run its stage again")
    return value


def parameters(card: dict[str, Any]) -> int:
    """How many numbers were learned, as a prompt set's card says."""
    learned = card.get("learned")
    return int(learned.get("parameters", 0)) if isinstance(learned, dict) else 0


def shots(card: dict[str, Any]) -> int:
    """How many good images of each product the prompt set looks at; 0 for zero-shot ones."""
    support = card.get("support")
    return int(support.get("shots", 0)) if isinstance(support, dict) else 0


def read_decisions(workspace: Workspace) -> list[dict[str, Any]]:
    """All decisions with their `number`, newest first."""
    found = []
    if workspace.decisions.is_dir():
        for path in workspace.decisions.iterdir():
            if match := _DECISION.match(path.name):
                found.append({"number": int(match.group(1)), **read_object(path)})
    return sorted(found, key=lambda decision: -decision["number"])


def read_training(folder: Path) -> pd.DataFrame | None:
    """stage, step, quantity, value of a tuning."""
    path = folder / "curves.csv"
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype={"stage": str, "quantity": str}, keep_default_na=False)
        table = table.astype({"step": float, "value": float})
        return table[["stage", "step", "quantity", "value"]]
    except (pd.errors.EmptyDataError, pd.errors.ParserError, KeyError, ValueError) as error:
        raise FlawlineError(f"{path} is not a table of training curves: {error}", "tune again") from error


def read_tokens(path: Path) -> dict[str, list[list[tuple[str, float]]]]:
    """Prompt -> for each learned token the nearest words with their likeness."""
    try:
        return {
            prompt: [[(str(word), float(likeness)) for word, likeness in near] for near in tokens]
            for prompt, tokens in read_object(path).items()
        }
    except (TypeError, ValueError) as error:
        raise FlawlineError(f"{path} does not hold lists of words: {error}", "tune again") from error


def read_optional_tests(workspace: Workspace) -> pd.DataFrame | None:
    """results/tests.csv."""
    path = workspace.results / "tests.csv"
    return read_tests(path) if path.is_file() else None


def read_optional_matrix(workspace: Workspace) -> pd.DataFrame | None:
    """results/matrix.csv."""
    path = workspace.results / "matrix.csv"
    return read_matrix(path) if path.is_file() else None


def read_optional_confusion(folder: Path) -> pd.DataFrame | None:
    """confusion.csv of an evaluation folder."""
    path = folder / "confusion.csv"
    return read_confusion(path) if path.is_file() else None


def read_absences(folder: Path) -> dict[str, Any]:
    """absent.json of an evaluation folder: `absent` and `left_out`, see flawline.evaluate.absent."""
    path = folder / ABSENT
    found = read_object(path)
    rows = found.get("absent", [])
    kept = isinstance(rows, list) and all(
        isinstance(row, dict) and {"category", "defect", "metrics", "reason"} <= set(row) for row in rows
    )
    if not kept:
        raise FlawlineError(f"{path} is not a list of reasons", "delete it and run its stage again")
    return found


def read_ablations(workspace: Workspace, settings: Settings) -> dict[str, pd.DataFrame]:
    """Method -> its ablation's table, for the methods of which params.yaml still describes one."""
    found = {}
    for method in sorted(settings.ablations):
        path = workspace.ablation_tables / f"{method}.csv"
        if path.is_file():
            may_lack = ABLATION_COLUMNS[7:]
            types = dict.fromkeys(ABLATION_COLUMNS[:6], str)
            found[method] = read_table(path, "table of an ablation", ABLATION_COLUMNS, types, may_lack)
    return found
