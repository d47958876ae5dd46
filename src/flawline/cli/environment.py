"""What every command finds in its environment, and how it finds its workspace."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flawline.track.environment import QUIET
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.settings import Settings


def prepare_environment() -> None:
    """Quieten the tools and let child processes find this very `flawline`; what the user set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # DVC runs `flawline stage …` through the shell; without an activated environment it would not be found.
    scripts = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if scripts not in path:
        os.environ["PATH"] = os.pathsep.join([scripts, *path])


def choose_workspace(folder: Path) -> None:
    """Make `folder` the workspace of this process and of every process it starts."""
    os.environ["FLAWLINE_WORKSPACE"] = str(Workspace.find(folder).root)


def here() -> tuple[Workspace, "Settings"]:
    """The workspace and its validated settings.

    Raises:
        FlawlineError: no workspace, or params.yaml is wrong.
    """
    from flawline.settings import load_settings

    workspace = Workspace.find()
    return workspace, load_settings(workspace.params)
