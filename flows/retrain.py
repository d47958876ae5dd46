"""The retraining, from data to a promoted prompt set: `flawline retrain`.

    sync data → one task a DVC stage → log → gate and promotion → the report's stages → artifacts

Which stages there are, which needs which, and whether they have to run is DVC's knowledge alone.
"""

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

from flawline.report import timing
from flawline.settings import load_settings
from flawline.track import log as tracking
from flawline.track import pipeline
from flawline.track.lock_order import arrange
from flawline.track.recover import session
from flawline.workspace import Workspace
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


@task(name="log to MLflow", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def log_results(root: str) -> tracking.LoggedRun:
    """Write the result to MLflow unless it is there."""
    workspace = Workspace(Path(root))
    logged = tracking.log_retraining(workspace, load_settings(workspace.params))
    get_run_logger().info("run %s, %s", logged.run_id, "new" if logged.new else "logged before")
    return logged


@task(name="gate and promotion", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def gate(root: str, logged: tracking.LoggedRun) -> Judgement:
    """Judge the challenger, keep the decision, move the aliases."""
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    judgement = judge(workspace, settings, logged)
    if judgement.decision:
        tracking.attach_decision(workspace, settings, logged, judgement.decision)
    get_run_logger().info("%s: %s", judgement.verdict, judgement.reason)
    return judgement


@task(name="publish", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def publish(root: str, logged: tracking.LoggedRun, judgement: Judgement) -> None:
    """Keep the report with the MLflow run, and put table, verdict and link into the Prefect UI."""
    workspace = Workspace(Path(root))
    tracking.attach_report(workspace, load_settings(workspace.params), logged)
    create_markdown_artifact(results_markdown(board(workspace)), key="retrain-results")
    create_markdown_artifact(decision_markdown(judgement), key="retrain-decision")
    create_link_artifact(workspace.report.as_uri(), link_text="report", key="retrain-report")


@flow(name="retrain")
def retrain(root: str | None = None, force: bool = False) -> Outcome:
    """Pull data, check, synthesise, tune, evaluate, log, gate, promote, report; only what has to run.

    Args:
        root: the workspace; by default FLAWLINE_WORKSPACE or the working directory.
        force: run every stage, also those that are up to date.

    Raises:
        FlawlineError: bad input, told by the stage that met it.
    """
    workspace = Workspace.find(Path(root) if root else None)
    settings = load_settings(workspace.params)
    place = str(workspace.root)
    with session(workspace) as cleared, stage_runner(workspace, settings) as runner:
        sync_data(place)
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
    return Outcome(logged.run_id, logged.result_id, logged.new, judgement, outcomes, tuple(cleared))


def main(workspace_root: Path, force: bool = False) -> Outcome:
    """Run the flow here and print its summary; on the server of PREFECT_API_URL, else on an API of its own.

    Raises:
        FlawlineError: bad input, or the Prefect server cannot be reached.
    """
    workspace = Workspace.find(workspace_root)
    settings = load_settings(workspace.params)
    with session(workspace) as cleared, prefect_here(workspace):
        for what in cleared:
            say(what)
        outcome = retrain(str(workspace.root), force)
    show(outcome, workspace, settings)
    return outcome


if __name__ == "__main__":
    main(Path.cwd())
