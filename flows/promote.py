"""Promotion by hand: `python -m flows.promote REF`, where the gate would not, or not again."""

import sys
from dataclasses import asdict
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.gate import decisions
from flawline.settings import Settings, load_settings
from flawline.track import registry
from flawline.workspace import Workspace


def promote(workspace: Workspace, settings: Settings, ref: str) -> registry.Version:
    """Make a registered version (number or alias) champion, verified first, and write that down.

    Raises:
        FlawlineError: there is no such version, or its files are damaged.
    """
    from flawline.track.resolve import keep, local_folder

    with registry.promotion_lock(workspace, settings):
        known = registry.versions(workspace, settings)
        found = next((v for v in known if ref == v.version or ref in v.aliases), None)
        if found is None:
            raise FlawlineError(f"no version or alias '{ref}' in the registry", "see flawline history")
        champion = next((v for v in known if registry.CHAMPION in v.aliases), None)
        if champion and champion.version == found.version:
            return found
        local_folder(workspace, settings, found)
        registry.promote(workspace, settings, found)
        reason = f"version {found.version} was promoted by hand"
        then = champion.described() if champion else None
        decisions.append(workspace, decisions.by_hand("promote", found.described(), then, reason))
        keep(workspace, settings, found)
    return found


def main(arguments: list[str]) -> int:
    """Command line; prints the new champion."""
    try:
        if len(arguments) != 1:
            raise FlawlineError("one argument is needed", "python -m flows.promote VERSION|ALIAS")
        workspace = Workspace.find(Path.cwd())
        print(asdict(promote(workspace, load_settings(workspace.params), arguments[0])))
        return 0
    except FlawlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
