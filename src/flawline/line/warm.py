"""The near side of `flawline.line.warm_loop`: hand a stage to a process that has its libraries loaded.

Nothing heavier than sockets is imported, because every command passes here.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

#: where the process listens; set by `flawline.line.dvc_loop` for the commands that DVC runs
ADDRESS = "FLAWLINE_WARM"
LENGTH = 8  # bytes of the number that says how long a request is, and of the one that answers it


def ask(arguments: list[str]) -> int | None:
    """Let the warm process run `flawline arguments` as this process would: its folder, environment and streams.

    Returns:
        The exit code; None where there is no such process, or this command is no stage. A stage that was killed kills
        this process by the same signal.
    """
    address = os.environ.get(ADDRESS)
    if not address or arguments[:1] != ["stage"]:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        request = json.dumps(
            {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        ).encode()
        try:
            connection.connect(address)
            socket.send_fds(connection, [len(request).to_bytes(LENGTH, "big")], [0, 1, 2])
            connection.sendall(request)
        except OSError:  # it ended, and no stage has begun: this process is as good, only slower
            return None
        answer = b""
        with suppress(OSError):
            answer = connection.recv(LENGTH, socket.MSG_WAITALL)
    if len(answer) < LENGTH:
        print("error: the process that ran this stage ended before it", file=sys.stderr)
        return 1
    code = int.from_bytes(answer, "big", signed=True)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code
