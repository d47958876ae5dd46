"""The watch on a real Prefect server: looks as flow runs, acceptance as an event, and what a kill -9 leaves."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import spots
from running import PrefectServer, clean_environment, wait_for

from flawline.new_types.events import NEW_TYPE
from flawline.watch.state import State
from flawline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
LOOK = "import sys; sys.path.insert(0, sys.argv[2]); from flows.watch import watch; print(watch(sys.argv[1]))"


def environment(server: PrefectServer, tmp_path: Path) -> dict[str, str]:
    return clean_environment(
        PREFECT_API_URL=server.api,
        PREFECT_HOME=str(tmp_path / "prefect"),
        FLAWLINE_THREADS="1",
        OMP_NUM_THREADS="1",
    )


def look(workspace: Workspace, server: PrefectServer, tmp_path: Path) -> str:
    run = [sys.executable, "-c", LOOK, str(workspace.root), str(ROOT)]
    done = subprocess.run(
        run,
        env=environment(server, tmp_path),
        cwd=workspace.root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(server: PrefectServer, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{server.api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def command(workspace: Workspace, server: PrefectServer, tmp_path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flawline", *arguments],
        env=environment(server, tmp_path),
        cwd=workspace.root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_looks_are_flow_runs_and_an_accepted_item_is_an_event(
    watched: Workspace, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    assert "{'new': 6}" in look(watched, prefect_server, tmp_path)
    runs = asked(prefect_server, "flow_runs/filter", flows={"name": {"any_": ["watch"]}})
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"]
    artifacts = asked(prefect_server, "artifacts/filter", artifacts={"key": {"any_": ["watch"]}})
    assert "review item 1" in artifacts[0]["data"] and "| new | 6 | 6 |" in artifacts[0]["data"]
    assert "{}" in look(watched, prefect_server, tmp_path), "nothing is counted twice"

    line = ["watch", "accept", "1", "--category", "gear", "--name", "burn", "--words", "burn mark"]
    told = command(watched, prefect_server, tmp_path, *line)
    assert "told the server: retraining starts there" in told and "finds defects and names none" in told
    assert (watched.root / "data.dvc").is_file()
    assert len(list((watched.data / "plates" / "gear" / "test" / "burn").iterdir())) == 6

    def events() -> list[dict[str, Any]]:
        wanted = {"event": {"name": [NEW_TYPE]}}
        return asked(prefect_server, "events/filter", filter=wanted)["events"]  # type: ignore[no-any-return]

    [event] = wait_for("the event", events)
    payload = event["payload"]
    assert (payload["dataset"], payload["defect"], payload["images"]) == ("plates", "burn", 6)
    listed = command(watched, prefect_server, tmp_path, "watch", "list")
    assert "accepted" in listed and "plates/gear" in listed


def test_a_killed_look_is_made_good_by_the_next_one(
    watched: Workspace, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """With a real champion, in the middle of the stream."""
    for number in range(40):
        spots.save(watched.root / "incoming" / "more" / f"{number}.png", f"more {number}", "drop")
    with State(watched.state / "watch") as state:
        before = sum(state.counts().values())
    run = [sys.executable, "-c", LOOK, str(watched.root), str(ROOT)]
    child = subprocess.Popen(
        run, env=environment(prefect_server, tmp_path), cwd=watched.root, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def begun() -> bool:
        assert child.poll() is None, "it ended before it could be killed"
        with State(watched.state / "watch") as state:
            return sum(state.counts().values()) > before

    wait_for("the first batch", begun)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    with State(watched.state / "watch") as state:
        middle = sum(state.counts().values())
    if middle == before + 40:
        pytest.fail("it was too quick to be killed in the middle")
    look(watched, prefect_server, tmp_path)
    with State(watched.state / "watch") as state:
        assert sum(state.counts().values()) == before + 40
        assert len({crop.sha256 for crop in state.crops()}) == len(state.crops())
