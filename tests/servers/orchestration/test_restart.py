"""The Prefect server goes away in the middle of a run and comes back; and the clock is set while it is away."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import data_line
import pytest
from running import PrefectServer, Service, wait_for

from aftermath import assert_sound_and_repeatable
from conftest import Line, restore  # type: ignore[import-not-found]
from flawline.files import sha256_file
from flawline.new_types import events

pytestmark = pytest.mark.slow
Worker = Callable[..., Service]
YEAR = 365 * 86400
# The clock of the day as programs see it, so many seconds off; clocks that cannot be set go on as they are.
SHIFTED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *s = getenv("CLOCK_SHIFT"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, t);
  if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += shift();
  return code;
}
int gettimeofday(struct timeval *t, void *z) {
  struct timespec n; clock_gettime(CLOCK_REALTIME, &n);
  t->tv_sec = n.tv_sec; t->tv_usec = n.tv_nsec / 1000; return 0;
}
time_t time(time_t *t) {
  struct timespec n; clock_gettime(CLOCK_REALTIME, &n);
  if (t) *t = n.tv_sec;
  return n.tv_sec;
}
"""


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server that this test may stop."""
    server = PrefectServer(tmp_path / "server")
    try:
        yield server.start()  # type: ignore[misc]
    finally:
        server.stop()


def test_a_restart_in_the_middle_of_a_run(
    line: Callable[..., Line], worker: Worker, own_server: PrefectServer, undisturbed: Path
) -> None:
    here = line(server=own_server)
    here.deploy()
    run = here.start()
    worker(here.api, here.pool, SMALL_LINE_SLEEP="12")
    wait_for("evaluation begins", lambda: "evaluate boards begins" in here.log("evaluate@boards"), 240)
    own_server.stop()
    own_server.start()
    state = here.ended(run, 300)
    assert state.name == "Completed", state.message
    metrics = "results/metrics.csv"
    assert sha256_file(here.root / metrics) == sha256_file(undisturbed / metrics)
    assert here.logged() == 7 and here.decisions() == ["0001-promote.json"]
    after = here.start()
    assert here.ended(after).name == "Completed" and here.logged() == 7, "its place is free again"
    assert_sound_and_repeatable(here.root)


@pytest.fixture(scope="session")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the clock of the program it is loaded into by CLOCK_SHIFT seconds."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the clock of other programs cannot be shifted")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shift.c").write_text(SHIFTED)
    command = [compiler, "-shared", "-fPIC", "-o", "shift.so", "shift.c", "-ldl"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "shift.so"


@pytest.mark.parametrize("years", [-2])  # forward passes as well, and takes five minutes
def test_a_clock_that_was_set_changes_nothing_in_what_runs(
    years: int,
    line: Callable[..., Line],
    worker: Worker,
    own_server: PrefectServer,
    undisturbed: Path,
    shifted_clock: Path,
) -> None:
    """Everything of one day lies in the future, or long ago; new types are seen and finished work is not repeated."""
    here = line(server=own_server, look_seconds=15)
    restore(undisturbed, here.root)
    here.deploy()
    first = worker(here.api, here.pool)
    assert here.ended(here.start()).name == "Completed"
    first.stop()
    own_server.stop()

    clock = {"LD_PRELOAD": str(shifted_clock), "CLOCK_SHIFT": str(years * YEAR)}
    own_server.environment |= clock
    own_server.start()
    here.deploy()
    folder = here.workspace.data / "boards" / "nut" / "test" / "scratch"
    data_line.draw(folder, 6)
    for file in folder.iterdir():
        os.utime(file, (4e9, 4e9) if years < 0 else (1, 1))
    worker(here.api, here.pool, **clock)

    def triggered() -> list[Any]:
        return [run for run in here.runs() if run.parameters.get("event_id")]

    def all_ended() -> bool:
        return bool(triggered()) and all(run.state.is_final() for run in triggered())

    wait_for("the new type is retrained", all_ended, 400)
    # A trigger that was just deployed again may fire twice: the other run then finds the event answered.
    assert sorted(run.state.name for run in triggered())[0] == "Completed", [r.state for r in triggered()]
    assert {run.state.name for run in triggered()} <= {"Completed", "NothingNew"}
    [run] = [run for run in triggered() if run.state.name == "Completed"]
    [before] = [run for run in here.runs() if not run.parameters.get("event_id")]
    assert abs((run.start_time - before.start_time).days - years * 365) <= 1, "the clock was really set"
    assert events.is_answered(here.workspace, run.parameters["event_id"])
    results = sha256_file(here.workspace.metrics)
    again = here.start(off=timedelta(seconds=years * YEAR))
    assert here.ended(again).name == "Completed" and sha256_file(here.workspace.metrics) == results
    assert here.logged() == 14, "two results, each logged once"
    assert_sound_and_repeatable(here.root)
