"""Worker and run killed by -9 in the middle of tuning: what comes after is as if nothing had been."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import Service, wait_for

from aftermath import assert_sound_and_repeatable
from conftest import Line  # type: ignore[import-not-found]
from flawline.files import sha256_file
from flawline.line.recover import session
from flows.dead_runs import AGAIN, bury_all

pytestmark = pytest.mark.slow
Worker = Callable[..., Service]
SAME = ("results/metrics.csv", "dvc.lock", "decisions/0001-promote.json", "reports/index.html")


def kill_in_tuning(here: Line, worker: Worker) -> tuple[object, list[psutil.Process]]:
    """Deploy, begin a retraining and kill its worker and its process; the stage is left alone as an orphan."""
    here.deploy()
    run = here.start()
    first = worker(here.api, here.pool, DATA_LINE_SLEEP="600")
    wait_for("tuning begins", lambda: "tune begins" in here.log("tune"), 240)
    family = first.family()
    prefects = [p for p in family if "prefect" in " ".join(p.cmdline())]
    assert len(prefects) >= 2 and len(family) > len(prefects)
    for process in prefects:
        process.kill()
    psutil.wait_procs(prefects, timeout=20)
    assert here.run(run).state.name == "Running", "nobody could tell the server"
    return run, [p for p in family if p not in prefects]


def test_the_next_worker_tells_the_server_and_runs_it_again_to_the_same_bytes(
    line: Callable[..., Line], worker: Worker, undisturbed: Path
) -> None:
    here = line()
    killed, orphans = kill_in_tuning(here, worker)
    look = here.start("look at data")
    worker(here.api, here.pool)
    assert here.ended(look).name == "Completed"
    state = here.ended(killed, 30)
    assert state.name == "Crashed" and state.message == "its process was killed"
    [again] = [run for run in here.runs() if AGAIN in run.tags]
    assert here.ended(again.id, 300).name == "Completed"
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in orphans)
    for name in SAME:
        assert sha256_file(here.root / name) == sha256_file(undisturbed / name), name
    assert here.logged() == 7 and len(here.versions()) == 1
    assert list((here.workspace.state / "runs").glob("*")) == []
    assert_sound_and_repeatable(here.root)


def test_of_the_runs_that_were_missed_one_is_caught_up_with(line: Callable[..., Line]) -> None:
    here = line(look_seconds=5)
    look = here.deploy()["look at data"]
    asked = here.start("look at data")

    def missed() -> int:
        return sum(run.expected_start_time < datetime.now(UTC) for run in planned())

    def planned() -> list[Any]:
        return [run for run in here.runs("look at data") if run.auto_scheduled]

    wait_for("three runs are late, because no worker takes them", lambda: missed() >= 3)
    with here.here():
        bury_all(here.workspace, [look])
    assert missed() <= 2, "the last one, and maybe the next"
    assert here.run(asked).state.is_scheduled(), "what somebody asked for is never dropped"
    assert any(run.expected_start_time > datetime.now(UTC) for run in planned()), "nor what is to come"


def test_what_a_worker_took_and_never_began_is_cleared_where_no_worker_lives(
    line: Callable[..., Line],
) -> None:
    from prefect.states import Pending

    here = line()
    deployed = here.deploy()
    taken = here.start("evaluate")
    with here.client() as client:
        client.set_flow_run_state(taken, Pending(name="Submitting"), force=True)
    with here.here():
        told = bury_all(here.workspace, list(deployed.values()))
    assert len(told) == 1 and "marked as crashed" in told[0], "an evaluation is not repeated by itself"
    assert here.run(taken).state.name == "Crashed"
    with session(here.workspace) as cleared:
        assert cleared == []
