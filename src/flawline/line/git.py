"""Running git, quietly, with its refusal as one line."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flawline.errors import FlawlineError

# A person's own settings must not change what a patch looks like.
PLAIN = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "core.quotepath=true")


def run_git(
    root: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    given: bytes = b"",
    fails: bool = False,
) -> bytes:
    """Run git and return its output.

    Args:
        root: where.
        arguments: of git.
        environment: added to this process' own.
        given: its standard input.
        fails: whether a failure is an answer as well: empty.

    Raises:
        FlawlineError: git failed, or is not installed.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, **(environment or {})},
            input=given,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if fails:
            return b""
        raise FlawlineError("git is not installed", "install it") from error
    if done.returncode == 0:
        return done.stdout
    if fails:
        return b""
    said = " ".join(done.stderr.decode(errors="replace").split())[:300]
    raise FlawlineError(f"git failed in {root}: {said}", "mend what git says, then run this again")


def text(root: Path, *arguments: str, fails: bool = False) -> str:
    """git's output as text without the line end; see `run_git`."""
    return run_git(root, *arguments, fails=fails).decode(errors="replace").strip()
