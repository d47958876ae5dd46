"""An ablation in MLflow: a parent run with its table, and a run a variant and seed, comparable with each other.

A variant's run holds what a prompt set's run of a retraining holds (card, curves, metrics under the same names), and
what was changed. Its kind is `variant`, and its parent is no retraining: nothing here can become a challenger.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from flawline.evaluate.tables import MEAN
from flawline.line.lock import data_hash, git_commit
from flawline.settings import Settings
from flawline.track.log import CELL, COMPLETE, KIND, RESULT, LoggedRun
from flawline.track.log_cell import log_cell
from flawline.track.points import log_params, log_points
from flawline.track.store import Store, open_store
from flawline.variants import VariantId, entered, of
from flawline.workspace import Cell, Workspace

PARENT, CHILD = "ablation", "variant"
METHOD, VARIANT, PART = "flawline.method", "flawline.variant", "flawline.part"


def log_ablation(
    workspace: Workspace,
    settings: Settings,
    method: str,
    cells: Sequence[tuple[str, Cell]],
    table: pd.DataFrame,
    result: str,
) -> LoggedRun:
    """Log an ablation unless the same result was logged before; one that was interrupted is written anew.

    Args:
        workspace: whose files are logged.
        settings: its params.yaml.
        method: whose ablation it is.
        cells: (variant, cell) of everything in the table.
        table: of `flawline.evaluate.ablation.ablation_table`.
        result: of its DVC project (`flawline.line.lock.result_id`).

    Raises:
        FlawlineError: a stage's file is missing, or the store cannot be used.
    """
    store = open_store(workspace, settings)
    for run in _runs(store, f"tags.`{RESULT}` = '{result}' and tags.`{KIND}` = '{PARENT}'"):
        children = {
            child.data.tags[CELL]: child.info.run_id
            for child in _runs(store, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
            if CELL in child.data.tags
        }
        if run.data.tags.get(COMPLETE) == "true":
            return LoggedRun(run.info.run_id, result, False, children)
        for run_id in [*children.values(), run.info.run_id]:
            store.client.delete_run(run_id)
    tags = {
        RESULT: result,
        METHOD: method,
        "flawline.data": data_hash(workspace),
        "mlflow.source.git.commit": git_commit(workspace.root),
        "mlflow.source.name": f"flawline ablate {method}",
        "mlflow.source.type": "PROJECT",
    }
    parent = store.client.create_run(
        store.experiment_id, tags={**tags, KIND: PARENT}, run_name=f"ablation {method} {result[:8]}"
    ).info.run_id
    _log_parent(store, parent, workspace, settings, method, table)
    runs = {}
    for variant, cell in cells:
        name = f"{variant}-{cell.train}-{cell.seed}"
        which = VariantId(method, variant)
        described = of(settings, which)
        more = {KIND: CHILD, CELL: name, VARIANT: variant, PART: described.part if described else ""}
        child = store.client.create_run(
            store.experiment_id,
            tags={**tags, **more, "mlflow.parentRunId": parent},
            run_name=f"{which}-{cell.train}-{cell.seed}",
        ).info.run_id
        log_params(store.client, child, {"variant": variant, "change": described.change if described else {}})
        place, its = entered(workspace, settings, which)
        log_cell(store.client, child, place, its, cell)
        store.client.set_terminated(child)
        runs[name] = child
    store.client.set_tag(parent, COMPLETE, "true")
    store.client.set_terminated(parent)
    return LoggedRun(parent, result, True, runs)


def _log_parent(
    store: Store, run_id: str, workspace: Workspace, settings: Settings, method: str, table: pd.DataFrame
) -> None:
    client = store.client
    facts = {
        "method": method,
        "variants": ", ".join(dict.fromkeys(table["variant"])),
        "train": ", ".join(settings.data.train),
        "test": ", ".join(settings.data.test),
        "seeds": ", ".join(sorted(set(table["seed"]) - {MEAN}, key=int)),
        "backbone": settings.backbone.name,
        "weights": settings.backbone.weights,
    }
    log_params(client, run_id, facts)
    points = []
    for row in table[table["seed"] == MEAN].to_dict("records"):
        trained = f".from-{row['train_set']}" if len(settings.data.train) > 1 else ""
        name = f"{row['variant']}.{row['metric']}.{row['test_set']}{trained}"
        points.append((name, float(row["value"]), 0))
        points.append((f"{name}.difference", float(row["difference"]), 0))
    log_points(client, run_id, points)
    project, tables = workspace.ablation(method), workspace.ablation_tables
    for file in (
        tables / f"{method}.csv",
        tables / f"{method}.md",
        project / "dvc.yaml",
        project / "dvc.lock",
    ):
        client.log_artifact(run_id, str(file))
    client.log_artifact(run_id, str(workspace.params))


def _runs(store: Store, condition: str) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id], filter_string=condition, max_results=1000))
