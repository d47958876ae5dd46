"""Prefect flows: when and where things run. Everything with a side effect starts here."""

from contextlib import suppress

from flawline.errors import FlawlineError
from flawline.track.environment import prepare
from flawline.workspace import Workspace

# Prefect reads its settings when it is first imported, which the modules of this package do.
with suppress(FlawlineError):
    prepare(Workspace.find())
