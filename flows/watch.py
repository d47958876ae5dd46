"""One look at `watch.source` as a flow: new kinds of defects among incoming images, drift of good ones."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flawline.settings import load_settings
from flawline.workspace import Workspace
from flows.dead_runs import living_run


@flow(name="watch")
def watch(root: str) -> dict[str, int]:
    """Look once; what was found stands in the run's artifact and in reports/review/index.html.

    Args:
        root: the workspace.

    Returns:
        New images by verdict.

    Raises:
        FlawlineError: nothing to watch, no champion yet, or the source cannot be read.
    """
    from flawline.detector import Detector
    from flawline.files import sha256_folder
    from flawline.track import registry
    from flawline.watch.incoming import open_source
    from flawline.watch.look import look
    from flawline.watch.tell import lines, markdown, source_of

    workspace = Workspace(Path(root))
    settings = load_settings(workspace.params)
    logger = get_run_logger()
    with living_run(workspace):
        source = open_source(workspace, source_of(settings, None))
        folder = registry.resolve(workspace, settings, registry.CHAMPION)
        detector = Detector.open(folder, workspace.root)
        found = look(workspace, settings, detector, sha256_folder(folder), source, logger.info)
    for line in lines(workspace, found):
        logger.info(line)
    create_markdown_artifact(markdown(workspace, found), key="watch", description="What came in")
    return found.counts
