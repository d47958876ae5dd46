"""Stage: all evaluated cells joined into results/metrics.csv."""

from flawline.evaluate.compare import compare
from flawline.evaluate.tables import write_metrics
from flawline.settings import Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings) -> None:
    """Write results/metrics.csv: one row a cell, category, defect and metric, then the means."""
    write_metrics(workspace.metrics, compare(workspace, settings))
