"""`flawline ui` with nothing else: a folder is dropped, the rest happens by itself. The tests run in this order."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import data_line
import psutil
import pytest
from running import Service, clean_environment, free_port, wait_for

from aftermath import assert_sound_and_repeatable
from conftest import Line  # type: ignore[import-not-found]
from flawline.files import read_parquet
from flawline.new_types import events
from flawline.track import environment
from flawline.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Line, Service]]:
    """A workspace in which nothing was ever trained, with `flawline ui` running in it."""
    root = data_line.make_workspace(
        tmp_path_factory.mktemp("ui") / "wörk space", work_pool="here", look_seconds=10, settle_seconds=1.0
    )
    port = free_port()
    ports = ["--prefect-port", str(port), "--mlflow-port", str(free_port())]
    service = Service(
        [sys.executable, "-m", "flawline", "ui", *ports],
        root.parent / "ui.log",
        clean_environment(),
        cwd=root,
    )
    try:
        service.start()
        told = lambda: service.process.poll() is not None or "Ctrl-C stops them" in service.text()  # noqa: E731
        wait_for("everything is up", told, 240)
        assert service.process is not None and service.process.poll() is None, service.text()
        yield Line(Workspace(root), f"http://127.0.0.1:{port}/api"), service
    finally:
        service.stop()


def test_it_says_what_runs_where(ui: tuple[Line, Service]) -> None:
    here, service = ui
    text = service.text()
    assert here.api.removesuffix("/api") in text and "MLflow   http://127.0.0.1:" in text
    key = events.workspace_key(here.workspace)
    assert (
        f"retrain/{key}: event flawline.defect-type.new" in text and f"look at data/{key}: every 10 s" in text
    )
    assert environment.running_server(here.workspace) == here.api, (
        "commands in this workspace find the server"
    )


def test_a_dropped_folder_ends_in_a_retraining_and_a_decision(ui: tuple[Line, Service]) -> None:
    here, service = ui
    assert not here.decisions()
    data_line.draw(here.workspace.data / "boards" / "nut" / "test" / "scratch", 6)

    def ended() -> bool:
        assert service.process is not None and service.process.poll() is None, service.text()
        return any(run.state.is_final() for run in here.runs())

    wait_for("a retraining begins by itself and ends", ended, 400)
    [run] = here.runs()
    assert run.state.name == "Completed", run.state.message
    assert (run.parameters["dataset"], run.parameters["defect"]) == ("boards", "scratch")
    assert events.is_answered(here.workspace, run.parameters["event_id"])
    assert here.decisions() == ["0001-promote.json"] and here.logged() == 7
    assert [version.aliases for version in here.versions()] == [("champion",)]
    table = read_parquet(here.workspace.manifest)
    assert (table["defect"] == "scratch").sum() == 6, "the new images are in the evidence"
    metrics = here.workspace.metrics.read_text()
    assert ",nut,scratch," in metrics and ",scratch," in metrics
    pointer = (here.root / "data.dvc").read_text()
    assert "nfiles: 174" in pointer, "and are a version"


def test_the_same_event_delivered_again_and_again_starts_nothing_new(ui: tuple[Line, Service]) -> None:
    from prefect.events.schemas.events import Event, Resource

    here, _ = ui
    [first] = here.runs()
    told = {name: first.parameters[name] for name in ("dataset", "defect", "event_id")}
    before = (here.logged(), here.decisions(), (here.root / "dvc.lock").read_bytes())
    about = Resource({"prefect.resource.id": events.resource(here.workspace)})
    with here.client() as client:
        for _ in range(2):  # under numbers of their own: as two producers would send it
            event = Event(id=uuid4(), event=events.NEW_TYPE, resource=about, payload={**told, "images": 6})
            client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    wait_for("both are answered", lambda: sum(run.state.is_final() for run in here.runs()) == 3, 240)
    assert [run.state.name for run in here.runs()] == ["Completed", "NothingNew", "NothingNew"]
    assert "an earlier retraining has scratch in boards" in here.runs()[2].state.message
    assert (here.logged(), here.decisions(), (here.root / "dvc.lock").read_bytes()) == before
    assert_sound_and_repeatable(here.root)


def test_a_second_one_in_the_same_workspace_is_told_of_the_first(ui: tuple[Line, Service]) -> None:
    here, _ = ui
    done = subprocess.run(
        [sys.executable, "-m", "flawline", "ui"],
        cwd=here.root, env=clean_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and f"flawline ui runs here already, at {here.api}" in done.stderr


def test_ctrl_c_in_the_middle_of_a_run_leaves_no_process(ui: tuple[Line, Service]) -> None:
    here, service = ui
    run = here.start("retrain", force=True)
    here.begun(run)
    wait_for("a stage runs", lambda: here.log("tune").count("tune begins") >= 1)
    family = service.family()
    assert service.process is not None and len(family) >= 6
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(90) == 0
    living = [p for p in psutil.wait_procs(family, timeout=5)[1] if p.status() != psutil.STATUS_ZOMBIE]
    assert living == [] and not Path(here.workspace.state / "ui.json").exists()
    assert environment.running_server(here.workspace) is None
