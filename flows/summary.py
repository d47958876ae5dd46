"""What a retraining says at its end: the table, the verdict, and where to look."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flawline.settings import Settings
from flawline.track import registry, store
from flawline.workspace import Workspace
from flows.judge import Judgement

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """A finished retraining.

    Attributes:
        run_id: its MLflow run.
        result_id: of what lies in the workspace.
        logged: False where this result was in MLflow before.
        judgement: what the gate made of it.
        stages: `ran`, `restored` or `unchanged` by stage name.
        cleared: what a killed run had left, in words.
    """

    run_id: str
    result_id: str
    logged: bool
    judgement: Judgement
    stages: dict[str, str] = field(default_factory=dict)
    cleared: tuple[str, ...] = ()

    @property
    def ran(self) -> list[str]:
        """Names of the stages that did not stand as they were."""
        return [name for name, outcome in self.stages.items() if outcome != "unchanged"]


def board(workspace: Workspace) -> "pd.DataFrame":
    """The short results table."""
    from flawline.evaluate.compare import leaderboard
    from flawline.evaluate.tables import read_metrics

    return leaderboard(read_metrics(workspace.metrics))


def results_markdown(table: "pd.DataFrame") -> str:
    """The results table for the Prefect UI."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def decision_markdown(judgement: Judgement) -> str:
    """The verdict for the Prefect UI."""
    lines = [f"# {judgement.verdict}", "", judgement.reason, ""]
    for role, version in (("challenger", judgement.challenger), ("champion now", judgement.champion)):
        if version:
            lines.append(f"* {role}: version {version.version}, {named(version)}")
    if judgement.decision:
        lines += ["", f"Kept in decisions/{judgement.decision.name}"]
    return "\n".join(lines) + "\n"


def named(version: registry.Version) -> str:
    """What a version is, in words."""
    return f"{version.method}, tuned on {version.train_set}, seed {version.seed}"


def show(outcome: Outcome, workspace: Workspace, settings: Settings) -> None:
    """Print the summary on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    results = board(workspace)
    table = Table(*results.columns, title="Results on data sets that did not train", box=box.SIMPLE_HEAD)
    for row in results.astype(str).values.tolist():
        table.add_row(*row)
    console.print(table, markup=False)
    for line in lines(outcome, workspace, settings):
        console.print(line, markup=False, soft_wrap=True)


def lines(outcome: Outcome, workspace: Workspace, settings: Settings) -> list[str]:
    """The lines below the table."""
    judgement, ran = outcome.judgement, len(outcome.ran)
    text = [
        f"stages:   {ran} of {len(outcome.stages)} had to run" if ran else "stages:   nothing had to run",
        f"verdict:  {judgement.verdict}: {judgement.reason}",
    ]
    version = judgement.champion
    if version:
        promoted = "promoted" if judgement.verdict == "promote" else "serves"
        text.append(
            f"champion: {settings.track.model} version {version.version} {promoted} ({named(version)})"
        )
    else:
        text.append("champion: none")
    uri = store.tracking_uri(workspace, settings)
    seen = "make ui" if uri == store.embedded_uri(workspace) else uri
    note = "" if outcome.logged else ", logged before"
    text += [f"report:   {workspace.report}", f"MLflow:   run {outcome.run_id}{note} (look at it: {seen})"]
    if judgement.decision:
        text.append(f"decision: {judgement.decision}")
    return text
