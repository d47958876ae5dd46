"""A retraining in MLflow, written from the files the stages left, and never twice for the same result."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.line.lock import data_hash, git_commit, lock_hash, result_id
from flawline.settings import Settings
from flawline.track.log_cell import log_cell
from flawline.track.origin import FOLDER, write_origin
from flawline.track.points import log_params, log_points
from flawline.track.store import Store, open_store
from flawline.workspace import Cell, Workspace

RESULT, KIND, COMPLETE, CELL = "flawline.result_id", "flawline.kind", "flawline.complete", "flawline.cell"


@dataclass(frozen=True)
class LoggedRun:
    """A retraining in MLflow.

    Attributes:
        run_id: the parent run.
        result_id: the result it shows (see `flawline.line.lock.result_id`).
        new: False where the same result was logged before and nothing was written.
        children: run id of each prompt set, by `Cell.name`.
    """

    run_id: str
    result_id: str
    new: bool
    children: dict[str, str] = field(default_factory=dict)


def cells(settings: Settings) -> list[Cell]:
    """Every prompt set that params.yaml asks for."""
    tune, data = settings.tune, settings.data
    return [Cell(m, train, seed) for m in tune.methods for train in data.train for seed in tune.seeds]


def log_retraining(workspace: Workspace, settings: Settings, result: str | None = None) -> LoggedRun:
    """Log the present result: a parent run, and a child run for each prompt set.

    A run that was interrupted half-way is deleted and written anew.

    Args:
        workspace: whose files are logged.
        settings: its params.yaml.
        result: the result's id; by default computed from dvc.lock with the stages dvc.yaml has now.

    Raises:
        FlawlineError: a stage's file is missing, or the store cannot be used.
    """
    store = open_store(workspace, settings)
    result = result or present_result(workspace)
    for run in _runs(store, f"tags.`{RESULT}` = '{result}' and tags.`{KIND}` = 'retraining'"):
        children = {
            c.data.tags[CELL]: c.info.run_id for c in _children(store, run.info.run_id) if CELL in c.data.tags
        }
        if run.data.tags.get(COMPLETE) == "true":
            return LoggedRun(run.info.run_id, result, False, children)
        for run_id in [*children.values(), run.info.run_id]:
            store.client.delete_run(run_id)
    tags = {
        RESULT: result,
        "flawline.dvc_lock": lock_hash(workspace),
        "flawline.data": data_hash(workspace),
        "mlflow.source.git.commit": git_commit(workspace.root),
        "mlflow.source.name": "flawline retrain",
        "mlflow.source.type": "PROJECT",
    }
    parent = store.client.create_run(
        store.experiment_id, tags={**tags, KIND: "retraining"}, run_name=f"retraining {result[:8]}"
    ).info.run_id
    _log_parent(store, parent, workspace, settings)
    runs = {}
    for cell in cells(settings):
        child = store.client.create_run(
            store.experiment_id,
            tags={**tags, KIND: "prompt_set", CELL: cell.name, "mlflow.parentRunId": parent},
            run_name=cell.name,
        ).info.run_id
        log_cell(store.client, child, workspace, settings, cell)
        store.client.set_terminated(child)
        runs[cell.name] = child
    store.client.set_tag(parent, COMPLETE, "true")
    store.client.set_terminated(parent)
    return LoggedRun(parent, result, True, runs)


def present_result(workspace: Workspace) -> str:
    """The result id over the stages that dvc.yaml has now."""
    from flawline.line.pipeline import stages

    return result_id(workspace, {stage.name for stage in stages(workspace)})


def attach_report(workspace: Workspace, settings: Settings, logged: LoggedRun) -> bool:
    """Keep reports/index.html with the run, in place of an older one; False where it is there already."""
    return _attach(workspace, settings, logged, workspace.report, "report", "flawline.report")


def attach_decision(workspace: Workspace, settings: Settings, logged: LoggedRun, decision: Path) -> bool:
    """Keep a decision's file with the run, and its name as a tag; False where it is there already."""
    return _attach(workspace, settings, logged, decision, "decisions", f"flawline.decision.{decision.stem}")


def _attach(
    workspace: Workspace, settings: Settings, logged: LoggedRun, file: Path, folder: str, tag: str
) -> bool:
    if not file.is_file():
        raise FlawlineError(f"{file} is missing", "run the report stage (dvc repro report)")
    client = open_store(workspace, settings).client
    sha256 = sha256_file(file)
    if client.get_run(logged.run_id).data.tags.get(tag) == sha256:
        return False
    client.log_artifact(logged.run_id, str(file), folder)
    client.set_tag(logged.run_id, tag, sha256)
    return True


def _log_parent(store: Store, run_id: str, workspace: Workspace, settings: Settings) -> None:
    from flawline.evaluate.compare import leaderboard
    from flawline.evaluate.tables import read_metrics

    client = store.client
    tune, data = settings.tune, settings.data
    facts = {
        "train": ", ".join(data.train),
        "test": ", ".join(data.test),
        "methods": ", ".join(tune.methods),
        "seeds": ", ".join(map(str, tune.seeds)),
        "backbone": settings.backbone.name,
        "weights": settings.backbone.weights,
    }
    log_params(client, run_id, facts)
    table = read_metrics(workspace.metrics)
    rows = table[(table["seed"] == "mean") & (table["category"] == "mean") & (table["defect"] == "all")]
    points = []
    for row in rows.to_dict("records"):
        trained = f".from-{row['train_set']}" if len(data.train) > 1 else ""
        name = f"{row['method']}.{row['metric']}.{row['test_set']}{trained}"
        points.append((name, float(row["value"]), 0))
    log_points(client, run_id, points)
    for file in sorted(workspace.results.glob("*.csv")):  # metrics, paired tests, the matrix
        client.log_artifact(run_id, str(file))
    client.log_artifact(run_id, str(workspace.params))
    with tempfile.TemporaryDirectory() as folder:
        write_origin(workspace, settings, Path(folder))
        client.log_artifacts(run_id, folder, FOLDER)
    client.log_artifacts(run_id, str(workspace.checks), "checks")
    client.log_table(run_id, leaderboard(table), "leaderboard.json")


def _runs(store: Store, condition: str) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id], filter_string=condition, max_results=1000))


def _children(store: Store, parent: str) -> list[Any]:
    return _runs(store, f"tags.`mlflow.parentRunId` = '{parent}'")
