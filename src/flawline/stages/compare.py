"""Stage: all evaluated cells joined: metrics, paired tests between methods, and the cross-data-set matrix."""

from flawline.evaluate.compare import compare, paired_tests
from flawline.evaluate.matrix import matrix, matrix_page
from flawline.evaluate.tables import write_metrics, write_table
from flawline.files import read_parquet, write_text
from flawline.settings import Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings) -> None:
    """Write results/metrics.csv, tests.csv, matrix.csv and matrix.md.

    Raises:
        FlawlineError: a cell has not been evaluated, was evaluated with something else than what is there now, or
            its target images trained its prompts; then nothing is written.
    """
    manifest, metrics = read_parquet(workspace.manifest), compare(workspace, settings)
    cross = matrix(workspace, settings, manifest, metrics)
    tests = paired_tests(workspace, settings, manifest, metrics)
    write_metrics(workspace.metrics, metrics)
    write_table(workspace.results / "tests.csv", tests, "%.6g")  # p-values may be small
    write_table(workspace.results / "matrix.csv", cross)
    write_text(workspace.results / "matrix.md", matrix_page(cross))
