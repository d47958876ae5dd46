"""Two retrainings that both want to promote, each in a workspace and a process of its own, on one MLflow store."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import small_line

ROOT = Path(__file__).resolve().parents[2]

#: argv: root, ready file, go file. Both have decided before either may write that down.
JUDGE = """
import json, sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import small_line
from safetensors.numpy import load_file
from flawline.settings import load_settings
from flawline.stages import evaluate
from flawline.track.log import LoggedRun, cells
from flawline.track.store import open_store
from flawline.workspace import Workspace
from flows import judge as judging

place, ready, go = map(Path, sys.argv[1:])
workspace, settings = Workspace(place), load_settings(place / "params.yaml")

def measured(place, settings, cell, test):
    [quality] = set(load_file(place.prompts(cell) / "prompts.safetensors")["context"].ravel().tolist())
    small_line.write_evaluation(place.evaluation(cell, test), test, "learned", cell.seed, quality)

decide, tries = judging.decide, []

def waits(*given, **named):
    decision = decide(*given, **named)
    tries.append(decision.against)
    if len(tries) == 1:
        ready.touch()
        end = time.monotonic() + 240
        while not go.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
    return decision

evaluate.run, judging.decide = measured, waits
store = open_store(workspace, settings)
run_id = store.client.create_run(store.experiment_id).info.run_id
logged = LoggedRun(run_id, "r", True, {{cell.name: run_id for cell in cells(settings)}})
found = judging.judge(workspace, settings, logged)
print(json.dumps([found.verdict, found.reason, found.champion.version, found.challenger.version, tries]))
"""


def workspace_of(finished: Path, root: Path, name: str, learned: float) -> Path:
    """A finished miniature workspace whose learned prompts are so good; experiment and model are called `name`."""
    shutil.copytree(finished, root)
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("small, model: small", f"{name}, model: {name}"))
    small_line.set_quality(root, learned=learned, words=0.6)
    before = Path.cwd()
    os.chdir(root)
    try:
        for part in ("out/evaluation", *(f"out/evaluation-{test}" for test in small_line.TESTS)):
            shutil.rmtree(part)
        small_line.tune()
        for test in small_line.TESTS:
            small_line.evaluate(test)
        small_line.compare()
    finally:
        os.chdir(before)
    return root


def judge_both(roots: list[Path], uri: str, scratch: Path) -> list[dict[str, Any]]:
    """Judge in two processes at once; what each said: verdict, reason, champion, challenger, tries."""
    code = JUDGE.format(root=str(ROOT), tests=str(ROOT / "tests"))
    go, started = scratch / "go", []
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    for number, root in enumerate(roots):
        ready = scratch / f"ready-{number}"
        command = [sys.executable, "-c", code, str(root), str(ready), str(go)]
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append((process, ready))
    try:
        end = time.monotonic() + 240
        while not all(ready.exists() for _, ready in started):
            for process, _ in started:
                assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < end, "the two did not decide"
            time.sleep(0.1)
        go.touch()
        found = []
        for process, _ in started:
            said, told = process.communicate(timeout=240)
            assert process.returncode == 0, told[-3000:]
            keys = ("verdict", "reason", "champion", "challenger", "tries")
            found.append(dict(zip(keys, json.loads(said.splitlines()[-1]), strict=True)))
        return found
    finally:
        for process, _ in started:
            process.kill()


def decisions_of(root: Path) -> list[dict[str, Any]]:
    """The decision files of a workspace, oldest first."""
    return [json.loads(path.read_text()) for path in sorted((root / "decisions").glob("*.json"))]


def one_wins(roots: list[Path], found: list[dict[str, Any]]) -> tuple[int, int]:
    """Check what must be true however the race went; the numbers of the faster and of the slower one."""
    [first] = [number for number, one in enumerate(found) if one["tries"] == ["baseline words"]]
    second = 1 - first
    assert found[first]["verdict"] == "promote"
    assert found[second]["tries"] == ["baseline words", "champion"], "judged again, against the new champion"
    [kept], [again] = decisions_of(roots[first]), decisions_of(roots[second])
    assert (kept["champion"], kept["against"]) == (None, "baseline words")
    assert again["champion"]["sha256"] == kept["challenger"]["sha256"] and again["against"] == "champion"
    assert again["verdict"] == found[second]["verdict"], "what was decided before is written down nowhere"
    return first, second
