"""The retraining, from data to a promoted prompt set: `flawline retrain`.

    sync data → one task a DVC stage → log → gate and promotion → the report's stages → artifacts

Which stages there are, which needs which, and whether they have to run is DVC's knowledge alone.
"""

from collections.abc import Callable
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from flawline.errors import FlawlineError
from flawline.line import pipeline
from flawline.line.lock_order import arrange
from flawline.line.recover import session
from flawline.new_types import events
from flawline.report import timing
from flawline.settings import Settings, load_settings
from flawline.track import log as tracking
from flawline.workspace import Workspace
from flows.away import PATIENCE, mlflow_may_be_away
from flows.dead_runs import living_run, patience
from flows.judge import Judgement, judge
from flows.prefect_here import prefect_here
from flows.runners import stage_runner
from flows.stages import run_stages, say, worth_retrying
from flows.summary import Outcome, board, decision_markdown, results_markdown, show


@task(name="sync data", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def sync_data(root: str) -> dict[str, str]:
    """Fill in data and backbones from the DVC remote where they are missing."""
    from flawline.data.versioning import pull

    found = pull(Workspace(Path(root)))
    get_run_logger().info("data: %s", found)
    for target, how in found.items():
        if how == "pulled":
            say(f"  {target}: pulled")
    return found


@task(name="version data", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def version_data(root: str) -> bool:
    """Make what lies in data/ now a version (`dvc add data`)."""
    from flawline.data.versioning import track_data

    changed = track_data(Workspace(Path(root)))
    get_run_logger().info("data.dvc %s", "names a new version" if changed else "is up to date")
    return changed


@task(
    name="log to MLflow",
    retries=len(PATIENCE),
    retry_delay_seconds=PATIENCE,
    retry_condition_fn=worth_retrying,
)
def log_results(root: str) -> tracking.LoggedRun:
    """Write the result to MLflow unless it is there."""
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    with mlflow_may_be_away(workspace, settings):
        logged = tracking.log_retraining(workspace, settings)
    get_run_logger().info("run %s, %s", logged.run_id, "new" if logged.new else "logged before")
    return logged


@task(
    name="gate and promotion",
    retries=len(PATIENCE),
    retry_delay_seconds=PATIENCE,
    retry_condition_fn=worth_retrying,
)
def gate(root: str, logged: tracking.LoggedRun) -> Judgement:
    """Judge the challenger, keep the decision, move the aliases."""
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    with mlflow_may_be_away(workspace, settings):
        judgement = judge(workspace, settings, logged)
        if judgement.decision:
            tracking.attach_decision(workspace, settings, logged, judgement.decision)
    get_run_logger().info("%s: %s", judgement.verdict, judgement.reason)
    return judgement


@task(
    name="publish",
    retries=len(PATIENCE),
    retry_delay_seconds=PATIENCE,
    retry_condition_fn=worth_retrying,
)
def publish(root: str, logged: tracking.LoggedRun, judgement: Judgement) -> None:
    """Keep the report with the MLflow run, and put table, verdict and link into the Prefect UI."""
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    with mlflow_may_be_away(workspace, settings):
        tracking.attach_report(workspace, settings, logged)
    create_markdown_artifact(results_markdown(board(workspace)), key="retrain-results")
    create_markdown_artifact(decision_markdown(judgement), key="retrain-decision")
    create_link_artifact(workspace.report.as_uri(), link_text="report", key="retrain-report")


@flow(name="retrain")
def retrain(
    root: str | None = None,
    force: bool = False,
    dataset: str | None = None,
    defect: str | None = None,
    event_id: str | None = None,
) -> Outcome | State[None]:
    """Pull data, check, synthesise, tune, evaluate, log, gate, promote, report; only what has to run.

    Args:
        root: the workspace; by default FLAWLINE_WORKSPACE or the working directory.
        force: run every stage, also those that are up to date.
        dataset: where a new defect type was seen, if an event says so.
        defect: the new type.
        event_id: of that event. One that a finished retraining has answered runs nothing.

    Raises:
        FlawlineError: bad input, told by the stage that met it.
    """
    workspace = Workspace.find(Path(root) if root else None)
    with living_run(workspace), session(workspace, patience()) as cleared:
        if event_id and events.is_answered(workspace, events.check_id(event_id)):
            return Completed(
                name="NothingNew", message=f"an earlier retraining has {defect} in {dataset}: nothing to do"
            )
        # Those that are announced while this one runs may have come too late for its image table.
        told = {*events.unanswered(workspace), *([event_id] if event_id else [])}
        outcome = _retrain(workspace, force, tuple(cleared), version=event_id is not None)
        events.note_answered(workspace, sorted(told), outcome.result_id)
    return outcome


def _retrain(workspace: Workspace, force: bool, cleared: tuple[str, ...], version: bool) -> Outcome:
    settings = load_settings(workspace.params)
    place = str(workspace.root)
    with stage_runner(workspace, settings) as runner:
        sync_data(place)
        if version:
            version_data(place)
        every = pipeline.stages(workspace)
        order = [stage.name for stage in every]
        late = pipeline.after_decision(every)
        outcomes = run_stages(workspace, [s for s in every if s.name not in late], runner, force)
        arrange(workspace, order)
        logged = log_results(place)
        judgement = gate(place, logged)
        outcomes |= run_stages(workspace, [s for s in every if s.name in late], runner, force)
        arrange(workspace, order)
        timing.publish(workspace, settings, order)
        publish(place, logged, judgement)
    return Outcome(logged.run_id, logged.result_id, logged.new, judgement, outcomes, cleared)


def _before_the_flow(workspace: Workspace, settings: Settings) -> None:
    """What takes long and needs no flow: fetch the data, and make or reach the MLflow store.

    The flow does both again, which then takes no time, and stands in its own log. A store that cannot be reached is
    told now, before hours of tuning; what was made by then is logged when it is back.
    """
    from flawline.data.versioning import pull
    from flawline.track.store import open_store

    for target, how in pull(workspace).items():
        if how == "pulled":
            say(f"  {target}: pulled")
    try:
        open_store(workspace, settings)
    except FlawlineError as error:
        say(f"warning: {error}; the stages run meanwhile")


def main(
    workspace_root: Path, force: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> Outcome:
    """Run the flow here and print its summary; on the server of PREFECT_API_URL, else on an API of its own.

    Args:
        workspace_root: the workspace.
        force: run every stage, also those that are up to date.
        meanwhile: done while Prefect's API starts; what it raises is raised before anything is fetched or run.

    Raises:
        FlawlineError: bad input, or the Prefect server cannot be reached.
    """
    workspace = Workspace.find(workspace_root)
    settings = load_settings(workspace.params)

    def prepare() -> None:
        meanwhile()
        _before_the_flow(workspace, settings)

    with session(workspace) as cleared, prefect_here(workspace, prepare):
        for what in cleared:
            say(what)
        outcome = retrain(str(workspace.root), force)
    assert isinstance(outcome, Outcome)
    show(outcome, workspace, settings)
    return outcome


if __name__ == "__main__":
    main(Path.cwd())
