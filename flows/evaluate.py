"""A named prompt set on the workspace's test sets: a version or alias of the registry, or a folder."""

import os
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flawline.determinism import THREADS, stage_threads
from flawline.files import sha256_folder
from flawline.line.recover import session
from flawline.settings import load_settings
from flawline.workspace import Workspace
from flows.dead_runs import living_run, patience
from flows.measure import measure
from flows.stages import worth_retrying


@task(name="fetch prompt set", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def fetch(root: str, prompt_set: str) -> str:
    """The verified folder of a prompt set."""
    from flawline.track.resolve import resolve

    workspace = Workspace(Path(root))
    return str(resolve(workspace, load_settings(workspace.params), prompt_set))


@task(name="measure", retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=worth_retrying)
def measured(root: str, folder: str) -> dict[str, str]:
    """Evaluation folders by test set."""
    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    os.environ[THREADS] = str(stage_threads(settings.run.threads))  # as the stages have them: equal bytes
    found = measure(workspace, settings, Path(folder), sha256_folder(Path(folder)))
    return {test: str(path) for test, path in found.items()}


@flow(name="evaluate")
def evaluate(root: str, prompt_set: str = "champion") -> dict[str, str]:
    """Measure a prompt set on the test sets of params.yaml, as the gate measures a champion. Changes no alias.

    Args:
        root: the workspace.
        prompt_set: an alias or a version of the registry, or a folder with card.json.

    Returns:
        The evaluation folder of each test set.

    Raises:
        FlawlineError: there is no such prompt set, or it cannot be measured here.
    """
    workspace = Workspace(Path(root))
    with living_run(workspace), session(workspace, patience()):
        folders = measured(root, fetch(root, prompt_set))
    text = table(folders)
    create_markdown_artifact(text, key="evaluation", description=f"prompt set {prompt_set}")
    get_run_logger().info("%s:\n%s", prompt_set, text)
    return folders


def table(folders: dict[str, str]) -> str:
    """The means over categories as markdown, a line a test set."""
    import pandas as pd

    rows = []
    for test, folder in sorted(folders.items()):
        metrics = pd.read_csv(Path(folder) / "metrics.csv")
        means = metrics[(metrics["category"] == "mean") & (metrics["defect"] == "all")]
        rows.append({"test_set": test, **dict(zip(means["metric"], means["value"], strict=True))})
    found = pd.DataFrame(rows).set_index("test_set").round(3)
    lines = [["test set", *found.columns], ["---"] * (len(found.columns) + 1)]
    lines += [[str(test), *("" if pd.isna(v) else f"{v:.3f}" for v in row)] for test, row in found.iterrows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
