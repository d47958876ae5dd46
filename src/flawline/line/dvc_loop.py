"""DVC as a process that stays: reads a list of arguments a line, and ends each command's output with MARK and its code.

DVC takes half a second to import and to look around for the first time. Nothing of a command is kept for the next one:
every command opens the repository anew. The stages that it runs are handed to a process with their libraries loaded,
where the number of threads is fixed (that is read when libraries are loaded), on Linux (elsewhere a fork with
libraries loaded is not safe).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

MARK = "\x1eflawline: dvc ended with "
_WARM = "flawline.line.warm_loop"


def main() -> None:
    """Run commands until standard input ends."""
    warm = _begin_warm()
    from dvc.cli import main as dvc

    if warm and (address := _address(warm)):
        from flawline.line.warm import ADDRESS

        os.environ[ADDRESS] = address
    with os.fdopen(os.dup(0), encoding="utf-8") as requests, Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)  # what a stage runs must not read our requests
        for request in requests:
            code = dvc(json.loads(request))
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(1, f"{MARK}{code}\n".encode())
    if warm:
        warm.communicate()  # its standard input ends, and so does it


def _begin_warm() -> "subprocess.Popen[str] | None":
    """In this process' group, so that whoever ends the group ends it too; its life is that of the pipe to it."""
    try:  # the flawline of an older commit, which a rerun runs, may not have it
        known = importlib.util.find_spec(_WARM) is not None
    except ImportError:
        known = False
    if not known or sys.platform != "linux" or "FLAWLINE_THREADS" not in os.environ:
        return None
    command = [sys.executable, "-P", "-m", _WARM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _address(warm: "subprocess.Popen[str]") -> str:
    assert warm.stdout is not None
    return warm.stdout.readline().strip()


if __name__ == "__main__":
    main()
