"""A process with the libraries of stages loaded: for each stage that is asked for (`flawline.line.warm`) it forks.

Loading torch, scikit-learn and the rest takes four to five seconds of processor time, as much as many a stage itself.
It is done here once, and before the fork, for whichever stage first needs it. Nothing else passes from one stage to
the next: a stage runs in a child with nothing but loaded modules in it, sees its own arguments, folder, environment and
streams, and ends with the child. Where a file of flawline was edited since it was loaded, the child loads everything
anew: DVC notes the files as they are when a stage runs, and those must be what ran.

It serves one stage at a time, ends when its standard input does, and ends a stage whose asker is gone.
"""

import atexit
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from flawline.line.warm import ADDRESS, LENGTH

_CLIP = ("flawline.clip.backbone", "safetensors.torch")
_NEEDS = {
    "synthesize": (*_CLIP, "flawline.stages.synthesize"),
    "features": (*_CLIP, "flawline.stages.features"),
    "tune": (*_CLIP, "flawline.stages.tune"),
    "evaluate": (
        *_CLIP,
        "flawline.stages.evaluate",
        "flawline.evaluate.scoring",
        "flawline.prompts.shared.base",
        "matplotlib",
        "scipy.stats",
        "sklearn.metrics",
    ),
}
_END_SECONDS = 10
_STDIN = 0
_seen: dict[str, tuple[int, int, int] | None] = {}


def main() -> None:
    """Say on standard output where it listens; then serve until standard input ends."""
    from flawline.cli.app import run  # noqa: F401  typer, before the first fork

    _edited()  # remembers what was loaded
    folder = Path(tempfile.mkdtemp(prefix="flawline-"))  # short: the address of a socket may have 107 letters
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "stages"))
            listener.listen()
            print(folder / "stages", flush=True)
            while listener.fileno() in _first(listener.fileno(), _STDIN):
                # An asker may end while it asks.
                with listener.accept()[0] as connection, suppress(OSError):
                    _serve(connection, listener)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(connection: socket.socket, listener: socket.socket) -> None:
    request, streams = _heard(connection)
    for module in _NEEDS.get("".join(request["arguments"][1:2]), ()):
        with suppress(Exception):  # the stage meets the same, and tells it
            importlib.import_module(module)
    edited = _edited()
    gc.collect()
    gc.freeze()  # or the child's first collection would copy all that is shared
    ended, lives = os.pipe()
    pid = os.fork()
    if not pid:
        for descriptor in (ended, connection.detach(), listener.detach()):
            os.close(descriptor)
        if edited:
            os.set_inheritable(lives, True)
        _become(request, streams, anew=edited)
    for descriptor in (lives, *streams):
        os.close(descriptor)
    try:
        if ended not in _first(ended, connection.fileno(), _STDIN):
            _end(pid, ended)
    except BaseException:  # SIGTERM
        _end(pid, ended)
        raise
    finally:
        os.close(ended)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(status.to_bytes(LENGTH, "big", signed=True))


def _heard(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The request and the asker's three streams.

    Raises:
        OSError: the asker ended before it had said all.
    """
    size, streams, _, _ = socket.recv_fds(connection, LENGTH, 3)
    try:
        if len(size) < LENGTH or len(streams) < 3:
            raise ConnectionError("the asker is gone")
        return json.loads(_exactly(connection, int.from_bytes(size, "big"))), streams
    except BaseException:
        for descriptor in streams:
            os.close(descriptor)
        raise


def _edited() -> bool:
    """Whether a file of flawline that is loaded here is another one now than when it was seen first."""
    loaded = [
        file
        for name, module in [*sys.modules.items()]
        if name.partition(".")[0] == "flawline"
        if (file := getattr(module, "__file__", None))
    ]
    return any(_seen.setdefault(file, _stamp(file)) != _stamp(file) for file in loaded)


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        state = Path(file).stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns, state.st_ino


def _first(*descriptors: int) -> list[int]:
    """Which of them can be read, once one can: closed at the other end counts."""
    return select.select(descriptors, [], [])[0]


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionError("the asker is gone")
        found += part
    return bytes(found)


def _end(pid: int, ended: int) -> None:
    os.kill(pid, signal.SIGTERM)
    if not select.select([ended], [], [], _END_SECONDS)[0]:
        os.kill(pid, signal.SIGKILL)


def _become(request: dict[str, Any], streams: list[int], anew: bool) -> NoReturn:
    """Be the command in this child, to its end; `anew`: as a program that loads its own modules."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update({k: v for k, v in request["environment"].items() if k != ADDRESS})
        if anew:
            os.execv(sys.executable, [sys.executable, "-P", "-m", "flawline", *request["arguments"]])
        sys.argv = ["flawline", *request["arguments"]]
        from flawline.cli.app import run

        code = run(request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        # What the interpreter does at its end, but for taking everything apart: that would be this file's parent again.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
