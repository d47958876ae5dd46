"""What every survived fault has to leave behind: a sound workspace, whose results come out the same once more."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from flawline.doctor import examine

SECONDS = 300


def assert_sound(root: Path, besides: Collection[str] = ()) -> None:
    """`flawline doctor` finds nothing broken, apart from what the test's own workspace lacks (`besides`)."""
    broken = [item for item in examine(root) if item.broken and item.what not in besides]
    assert not broken, broken


def assert_sound_and_repeatable(root: Path, besides: Collection[str] = ()) -> None:
    """As `assert_sound`; and every stage, run again by DVC alone, gives the bytes that dvc.lock names."""
    assert_sound(root, besides)
    before = (root / "dvc.lock").read_bytes()
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    # No server is asked, and none of the slowness that a test may have put into its stages is wanted again.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "DATA_LINE", "SMALL_LINE"))}
    done = subprocess.run(
        command, cwd=root, env=kept, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "dvc.lock").read_bytes() == before, "the same bytes from every stage"
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "-q"], cwd=root, env=kept, timeout=SECONDS
    )
    assert status.returncode == 0, "and they are what lies there"
