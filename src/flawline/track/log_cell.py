"""One prompt set as an MLflow run: its protocol card, numbers, curves, pictures, words and data sets."""

import json
from typing import Any

from flawline.files import read_json, read_parquet, sha256_folder
from flawline.settings import Settings
from flawline.track.points import log_params, log_points
from flawline.workspace import Cell, Workspace

PROMPT_SET = "flawline.prompt_set"


def log_cell(client: Any, run_id: str, workspace: Workspace, settings: Settings, cell: Cell) -> None:
    """Log everything the stages left about `cell` to the run.

    Raises:
        FlawlineError: a file of the cell is missing.
    """
    folder, tuning = workspace.prompts(cell), workspace.tuning(cell)
    card = read_json(folder / "card.json")
    client.set_tag(run_id, PROMPT_SET, sha256_folder(folder))
    log_params(client, run_id, card)
    client.log_artifacts(run_id, str(folder), "prompt_set")
    client.log_text(run_id, prompts_text(card, _tokens(tuning)), "prompts.md")
    log_points(client, run_id, _cell_metrics(workspace, settings, cell))
    log_points(client, run_id, _curves(tuning))
    for test in settings.data.test:
        overlays = workspace.evaluation(cell, test) / "overlays"
        if overlays.is_dir():
            client.log_artifacts(run_id, str(overlays), f"overlays/{test}")
    _log_data_sets(client, run_id, workspace, settings, cell)


def prompts_text(card: dict[str, Any], tokens: dict[str, Any]) -> str:
    """The prompts as people read them: words, or the nearest vocabulary words of each learned token.

    Args:
        card: of the prompt set.
        tokens: prompt name to, for each learned token, its nearest words as [word, similarity] pairs.
    """
    lines = [f"# {card.get('method', 'prompts')}", ""]
    for prompt in sorted(tokens):
        lines += [
            f"## {prompt}",
            "",
            "| token | nearest words of the vocabulary (cosine similarity) |",
            "|---|---|",
        ]
        for number, near in enumerate(tokens[prompt], 1):
            words = ", ".join(f"`{_cell(str(word))}` {float(similarity):.2f}" for word, similarity in near)
            lines.append(f"| {number} | {words} |")
        lines.append("")
    if card.get("words"):
        lines += [
            "## words",
            "",
            "```json",
            json.dumps(card["words"], indent=2, ensure_ascii=False),
            "```",
            "",
        ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def _tokens(tuning: Any) -> dict[str, Any]:
    path = tuning / "tokens.json"
    return read_json(path) if path.is_file() else {}


def _cell_metrics(workspace: Workspace, settings: Settings, cell: Cell) -> list[tuple[str, float, int]]:
    """`image_auroc.boards` for a test set, `….mean` over the test sets, `….boards.CATEGORY`."""
    from flawline.evaluate.tables import read_metrics

    points = []
    macro: dict[str, list[float]] = {}
    for test in settings.data.test:
        table = read_metrics(workspace.evaluation(cell, test) / "metrics.csv")
        for row in table[table["defect"] == "all"].to_dict("records"):
            whole, value = row["category"] == "mean", float(row["value"])
            points.append((f"{row['metric']}.{test}" + ("" if whole else f".{row['category']}"), value, 0))
            if whole:
                macro.setdefault(str(row["metric"]), []).append(value)
    return points + [(f"{metric}.mean", sum(values) / len(values), 0) for metric, values in macro.items()]


def _curves(tuning: Any) -> list[tuple[str, float, int]]:
    import pandas as pd

    path = tuning / "curves.csv"
    if not path.is_file() or not path.stat().st_size:
        return []
    rows = pd.read_csv(path).to_dict("records")
    return [(f"curve.{r['stage']}.{r['quantity']}", float(r["value"]), int(r["step"])) for r in rows]


def _log_data_sets(client: Any, run_id: str, workspace: Workspace, settings: Settings, cell: Cell) -> None:
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag

    manifest = read_parquet(workspace.manifest)
    used = [(cell.train, "train", "training"), *((test, "test", "testing") for test in settings.data.test)]
    inputs = []
    for name, split, context in used:
        part = manifest[(manifest["dataset"] == name) & (manifest["split"] == split)].reset_index(drop=True)
        if part.empty:
            continue
        fields = json.loads(from_pandas(part, source=f"data/{name}", name=f"{name}.{split}").to_json())
        inputs.append(DatasetInput(Dataset(**fields), tags=[InputTag("mlflow.data.context", context)]))
    client.log_inputs(run_id, datasets=inputs)
