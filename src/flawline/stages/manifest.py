"""Stage `manifest`: the data folder becomes one table of images."""

from flawline.data.manifest import build_manifest
from flawline.files import write_parquet
from flawline.settings import Settings
from flawline.workspace import Workspace


def run(workspace: Workspace, settings: Settings) -> None:
    """Write out/manifest.parquet from the data sets that params.yaml names.

    Bad images do not stop this stage: they stand in the table with their problem, and the checks name them.
    """
    table = build_manifest(workspace.data, settings.data.all, settings.data.max_pixels)
    write_parquet(workspace.manifest, table)
