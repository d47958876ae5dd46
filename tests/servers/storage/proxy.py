"""A proxy that cuts answers off in the middle, as a broken line does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def cutting(target: int, every: int, times: int) -> Iterator[tuple[int, list[int]]]:
    """Forward a port of 127.0.0.1; a connection is closed after `every` bytes of answers, `times` times in all.

    Yields:
        The proxy's port, and a list that grows by one number a cut.
    """
    cuts: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = [listener]

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                open_ones.extend((near, far))
                threading.Thread(target=copy, args=(near, far, False), daemon=True).start()
                threading.Thread(target=copy, args=(far, near, True), daemon=True).start()

    def copy(source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := source.recv(65536):
                passed += len(chunk)
                if answers and passed > every and len(cuts) < times:
                    cuts.append(len(cuts) + 1)
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], cuts
    finally:
        for each in open_ones:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
