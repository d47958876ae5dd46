"""Stage `checks`: the data keeps the rules, or the line stops here, before anything is computed from it."""

import shutil
import sys

from flawline.checks.run import run_checks
from flawline.checks.summary import Summary
from flawline.data.vocabulary import load_vocabulary
from flawline.errors import ChecksFailed
from flawline.files import atomic_folder, read_parquet, write_json, write_text
from flawline.settings import Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings) -> None:
    """Write out/checks/summary.json and summary.md, and Data Docs to reports/data_docs.

    Raises:
        ChecksFailed: a critical expectation failed. All offenders stand in reports/checks-failed.md.
    """
    manifest = read_parquet(workspace.manifest)
    vocabulary = load_vocabulary(workspace.vocabulary)
    summary = run_checks(manifest, settings, vocabulary, workspace.data, workspace.data_docs)
    failed = workspace.root / "reports" / "checks-failed.md"
    for line in summary.as_lines("warning"):
        print(line, file=sys.stderr)
    if not summary.ok:
        for line in summary.as_lines("critical"):
            print(line, file=sys.stderr)
        write_text(failed, summary.as_markdown())
        shutil.rmtree(workspace.checks, ignore_errors=True)  # an earlier pass is true no longer
        raise _failure(summary)
    failed.unlink(missing_ok=True)
    with atomic_folder(workspace.checks) as folder:
        write_json(folder / "summary.json", summary.as_json())
        write_text(folder / "summary.md", summary.as_markdown())


def _failure(summary: Summary) -> ChecksFailed:
    broken = summary.broken("critical")
    more = sum(len(finding.offenders) for finding in broken) - 1
    others = f" (and {more} more, all named in reports/checks-failed.md)" if more else ""
    return ChecksFailed(f"{broken[0].offenders[0]}{others}", broken[0].remedy)
