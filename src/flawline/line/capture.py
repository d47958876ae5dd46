"""A command in a process group of its own: its lines are heard and kept, and all can be stopped at once.

Stages run side by side on threads, and an interrupt (Ctrl-C) reaches the main thread alone. So the running commands
are remembered here, for whoever has to end them.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_STOP_SECONDS = 10
_LOOK_SECONDS = 0.5
_running: set["subprocess.Popen[str]"] = set()
_guard = threading.Lock()
_stopping = threading.Event()


class Stopped(Exception):
    """The command was ended, or never begun, because everything stops."""


def captured(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    on_peak: Callable[[int], None] = lambda peak: None,
) -> tuple[int, list[str]]:
    """Run a command to its end.

    Args:
        command: with its arguments.
        folder: where it runs.
        environment: all of it.
        log: a file for its whole output, standard output and error together; written anew.
        on_line: called with every line that is not empty.
        on_peak: called at the end with the most resident bytes that any one process of it held, where known.

    Returns:
        Its exit code (negative: the signal that killed it) and the lines that are not empty.

    Raises:
        Stopped: by `stop_all`.
    """
    with begun(lambda: launch(command, folder, environment)) as process:
        lines, code = follow(process, log, on_line, on_peak)
        return process.wait() if code is None else code, lines


@contextmanager
def begun(take: Callable[[], "subprocess.Popen[str]"]) -> Iterator["subprocess.Popen[str]"]:
    """A process that `stop_all` knows of while it is used here; ended at the way out if anything went wrong.

    Args:
        take: gives the process, newly made or idle.

    Raises:
        Stopped: by `stop_all`, before it began or while it ran.
    """
    with _guard:  # so that stop_all misses none that is just being born
        if _stopping.is_set():
            raise Stopped("nothing new is begun")
        process = take()
        _running.add(process)
    try:
        yield process
    except BaseException:
        end(process)
        raise
    finally:
        with _guard:
            _running.discard(process)
        if _stopping.is_set():
            end(process)
            raise Stopped("the command was stopped")


def launch(
    command: list[str], folder: Path, environment: Mapping[str, str], stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[str]":
    """A command in a process group of its own; its standard output and error come as one text."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def follow(
    process: "subprocess.Popen[str]",
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    on_peak: Callable[[int], None] = lambda peak: None,
    mark: str | None = None,
) -> tuple[list[str], int | None]:
    """Hear a process until its output ends, or until `mark`, which it says with a number behind; see `captured`.

    Returns:
        The lines that are not empty, and the number; None where the output ended without.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    code: int | None = None
    memory = _Memory(process.pid)
    try:
        with log.open("w", encoding="utf-8") as file:
            assert process.stdout is not None
            for raw in process.stdout:
                told, ended, number = raw.partition(mark) if mark else (raw, "", "")
                line = told.rstrip()
                if line or not ended:
                    file.write(line + "\n")
                    file.flush()
                if line:
                    lines.append(line)
                    on_line(line)
                if ended:
                    code = int(number)
                    break
    finally:
        if peak := memory.peak():
            on_peak(peak)
    return lines, code


class _Memory:
    """The most resident bytes of any one process below a process, looked up every half second.

    On Linux the system remembers each process' peak, so that only what comes in the last half second may be missed.
    What it tells at the end (wait4) is no use: it counts the memory that a process shared with its parent before it
    became another program.
    """

    def __init__(self, pid: int) -> None:
        self._found, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def peak(self) -> int:
        """Stop looking; 0 where the process ended before it was seen."""
        self._ended.set()
        self._thread.join()
        return self._found

    def _watch(self, pid: int) -> None:
        while True:
            with suppress(psutil.Error):
                top = psutil.Process(pid)
                for process in (top, *top.children(recursive=True)):
                    with suppress(psutil.Error):
                        self._found = max(self._found, _peak(process))
            if self._ended.wait(_LOOK_SECONDS):
                return


def _peak(process: psutil.Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux, or it has just ended
        return int(process.memory_info().rss)


def stop_all() -> None:
    """End every command that runs in this process, with all that it started; new ones are refused."""
    with _guard:
        _stopping.set()
        found = list(_running)
    for process in found:
        _signal(process, signal.SIGTERM)
    for process in found:
        end(process)


def start_over() -> None:
    """After `stop_all`: let commands run again."""
    _stopping.clear()


def end(process: "subprocess.Popen[str]") -> None:
    """End the whole process group if its command still runs."""
    if process.poll() is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
