"""flawline tunes, proves and ships prompts for visual defect detection.

    import flawline
    detector = flawline.load("champion")
    [result] = detector.score([PIL.Image.open("part.jpg")])

Importing this package is cheap: torch, open_clip and MLflow are imported by the calls that need them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flawline.detector import Detector

__all__ = ["__version__", "load"]
__version__: str


def __getattr__(name: str) -> str:
    """`__version__` comes from the installed metadata, so pyproject.toml is the only place that states it."""
    if name != "__version__":
        raise AttributeError(f"module 'flawline' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flawline")
    except PackageNotFoundError:
        return "0+not-installed"


def load(ref: str = "champion", workspace: str | Path | None = None, fast: bool = False) -> "Detector":
    """A detector for one prompt set, ready for `score(images)`.

    Args:
        ref: a registry alias (`champion`), a version number of the registered model, or a prompt-set folder.
        workspace: a folder with params.yaml, or any folder below it; default: FLAWLINE_WORKSPACE, else the
            working directory.
        fast: let the detector choose number format and compilation by a short measurement; scores then differ from
            exact ones by at most 0.01.

    Raises:
        FlawlineError: there is no such workspace, prompt set or backbone; one line with the remedy.
    """
    from flawline.detector import Detector
    from flawline.settings import load_settings
    from flawline.track import registry
    from flawline.workspace import Workspace

    place = Workspace.find(Path(workspace) if workspace is not None else None)
    folder = registry.resolve(place, load_settings(place.params), ref)
    return Detector.open(folder, place.root, fast=fast)
