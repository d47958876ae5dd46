"""Stage: everything that came out, on one page."""

from flawline.files import write_text
from flawline.report.page import render
from flawline.settings import Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings) -> None:
    """Write reports/index.html: one file, no network, the same bytes for the same inputs.

    Raises:
        FlawlineError: results/metrics.csv is missing, or an input is broken; the message names it.
    """
    write_text(workspace.report, render(workspace, settings))
