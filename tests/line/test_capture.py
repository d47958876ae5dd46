"""Commands heard, kept, and stopped together."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flawline.line import capture
from flawline.line.capture import Stopped, captured


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    capture.start_over()


def shell(command: str, folder: Path, **more: object) -> tuple[int, list[str]]:
    return captured(["sh", "-c", command], folder, os.environ, folder / "logs" / "x.log", **more)  # type: ignore[arg-type]


def test_output_and_error_come_in_their_order_with_the_code(tmp_path: Path) -> None:
    heard: list[str] = []
    code, lines = shell("echo one; echo; echo ü >&2; printf three; exit 3", tmp_path, on_line=heard.append)
    assert (code, lines) == (3, ["one", "ü", "three"]) and heard == lines
    assert (tmp_path / "logs" / "x.log").read_text(encoding="utf-8") == "one\n\nü\nthree\n"


def test_the_peak_is_that_of_the_largest_process_also_of_a_grandchild(tmp_path: Path) -> None:
    peaks: list[int] = []
    hungry = f"{sys.executable} -c 'import time; kept = bytearray(200_000_000); time.sleep(1)'"
    code, _ = shell(f"({hungry}; true)", tmp_path, on_peak=peaks.append)
    assert code == 0 and len(peaks) == 1 and 200e6 < peaks[0] < 600e6


def test_stop_all_ends_every_command_with_its_children_and_refuses_new_ones(tmp_path: Path) -> None:
    pids: list[int] = []
    ends: list[str] = []

    def work(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        try:
            shell("sleep 600 & echo $!; wait", folder, on_line=lambda line: pids.append(int(line)))
        except Stopped:
            ends.append(name)

    threads = [threading.Thread(target=work, args=[name]) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while len(pids) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    capture.stop_all()
    for thread in threads:
        thread.join(30)
    assert sorted(ends) == ["a", "b"]
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids
    )
    with pytest.raises(Stopped):
        shell("touch never", tmp_path)
    assert not (tmp_path / "never").exists()
    capture.start_over()
    assert shell("touch again", tmp_path)[0] == 0 and (tmp_path / "again").exists()
