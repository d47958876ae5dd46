"""`dvc` commands in processes that stay for the next command, one for each that runs at a time.

They end with this process, whose end closes their standard input, and by `close`.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from flawline.line import capture, dvc_loop

_Key = tuple[Path, frozenset[tuple[str, str]]]
_idle: list[tuple[_Key, "subprocess.Popen[str]"]] = []
_guard = threading.Lock()
_MOST_IDLE = 16  # another environment or folder asks for another process; what nobody asks for again must end


def dvc(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    on_peak: Callable[[int], None] = lambda peak: None,
) -> tuple[int, list[str]]:
    """Run `dvc arguments` in `folder`; everything else as in `flawline.line.capture.captured`.

    Raises:
        Stopped: by `capture.stop_all`.
    """
    key = (folder, frozenset(environment.items()))
    with capture.begun(lambda: _take(key)) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed: its output ends at once
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
        lines, code = capture.follow(process, log, on_line, on_peak, dvc_loop.MARK)
        if code is None:
            return process.wait(), lines
    with _guard:
        _idle.append((key, process))
        spare = _idle[:-_MOST_IDLE]
        del _idle[:-_MOST_IDLE]
    for _, oldest in spare:
        _dismiss(oldest)
    return code, lines


def close() -> None:
    """End the processes that wait for a command."""
    with _guard:
        found = [process for _, process in _idle]
        _idle.clear()
    for process in found:
        _dismiss(process)


def _dismiss(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    capture.end(process)


def _take(key: _Key) -> "subprocess.Popen[str]":
    """An idle process of this folder and environment that still lives, or a new one."""
    with _guard:
        while found := next((entry for entry in _idle if entry[0] == key), None):
            _idle.remove(found)
            if found[1].poll() is None:
                return found[1]
    # By its file, not its name: a rerun of an older commit has that commit's flawline on PYTHONPATH. -P: without it the
    # file's folder would be the first place that imports are looked for.
    command = [sys.executable, "-P", dvc_loop.__file__]
    return capture.launch(command, key[0], dict(key[1]), stdin=subprocess.PIPE)
