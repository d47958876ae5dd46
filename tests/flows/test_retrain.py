"""The whole retraining on the miniature line: promoted once, repeated for nothing, killed and finished."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.line.recover import OWNER
from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Workspace
from flows import judge as judging
from flows.retrain import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Path:
    """A workspace after its first retraining; copy its state or only read it."""
    root = tmp_path_factory.mktemp("line") / "work space"
    small_line.make_workspace(root)
    outcome = main(root)
    assert outcome.logged and outcome.judgement.verdict == "promote" and len(outcome.ran) == 5
    return root


def runs(root: Path) -> int:
    store = open_store(Workspace(root), load_settings(root / "params.yaml"))
    return len(store.client.search_runs([store.experiment_id]))


def versions(root: Path) -> list[registry.Version]:
    return registry.versions(Workspace(root), load_settings(root / "params.yaml"))


def results(root: Path) -> dict[str, str]:
    """What must be equal however the run went."""
    names = ["results/metrics.csv", "dvc.lock", "reports/index.html", "decisions/0001-promote.json"]
    return {name: sha256_file(root / name) for name in names}


def test_the_first_retraining_leaves_everything(retrained: Path) -> None:
    [version] = versions(retrained)
    assert version.aliases == ("champion",) and version.method == "learned"
    [decision] = json.loads(f"[{(retrained / 'decisions/0001-promote.json').read_text()}]")
    assert decision["against"] == "baseline words" and decision["champion"] is None
    assert decision["challenger"] == version.described()
    assert decision["results"] == sha256_file(retrained / "results/metrics.csv")
    assert "0001-promote" in (retrained / "reports/index.html").read_text()
    assert runs(retrained) == 7


def test_the_second_changes_nothing(retrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, kept = results(retrained), runs(retrained)
    outcome = main(retrained)
    assert outcome.ran == [] and not outcome.logged and outcome.judgement.verdict == "unchanged"
    assert (results(retrained), runs(retrained), len(versions(retrained))) == (before, kept, 1)
    assert len(list((retrained / "decisions").glob("*.json"))) == 1
    told = capsys.readouterr().out
    assert "nothing had to run" in told and "version 1 serves" in told and "logged before" in told


def test_the_prefect_api_shows_table_and_decision(retrained: Path) -> None:
    from prefect.artifacts import Artifact

    table, decision = Artifact.get("retrain-results"), Artifact.get("retrain-decision")
    assert table is not None and "learned" in str(table.data)
    assert decision is not None and "version 1" in str(decision.data)


def measured(place: Workspace, settings: object, cell: object, test: str) -> None:
    """Stands in for the evaluate stage: the miniature prompt set's one tensor says how good it is."""
    from safetensors.numpy import load_file

    [quality] = set(load_file(place.prompts(cell) / "prompts.safetensors")["context"].ravel().tolist())  # type: ignore[arg-type]
    small_line.write_evaluation(place.evaluation(cell, test), test, "learned", cell.seed, quality)  # type: ignore[arg-type, attr-defined]


def refuse(place: Workspace, *_: object) -> None:
    """The evaluate stage for a champion that was tuned on what now tests it."""
    raise FlawlineError(f"{place.root}/data/a.png trained these prompts", "…")


def test_better_is_promoted_worse_stays_and_a_rollback_holds(
    retrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flawline.stages import evaluate

    workspace, settings = Workspace(retrained), load_settings(retrained / "params.yaml")
    monkeypatch.chdir(retrained)
    monkeypatch.setattr(evaluate, "run", measured)
    small_line.set_quality(retrained, learned=0.6, words=0.6)
    worse = main(retrained)
    assert worse.judgement.verdict == "stay" and worse.judgement.champion.version == "1"
    assert (retrained / "decisions/0002-stay.json").is_file()
    assert main(retrained).judgement.decision == worse.judgement.decision, "the same is never decided twice"

    small_line.set_quality(retrained, learned=1.6, words=0.6)
    better = main(retrained)
    assert better.judgement.verdict == "promote" and better.judgement.champion.version == "3"
    aliases = {a: v.version for v in versions(retrained) for a in v.aliases}
    assert aliases == {"champion": "3", "previous_champion": "1"}

    registry.rollback(workspace, settings)
    after = main(retrained)
    assert after.judgement.verdict == "stay" and "rolled back" in after.judgement.reason
    assert after.judgement.champion.version == "1"
    assert sorted(p.name for p in (retrained / "decisions").glob("*.json"))[2:] == [
        "0003-promote.json",
        "0004-rollback.json",
    ]

    monkeypatch.setattr(evaluate, "run", refuse)
    small_line.set_quality(retrained, learned=1.7, words=0.6)
    unknown = main(retrained)
    assert unknown.judgement.verdict == "stay" and unknown.judgement.champion.version == "1"
    assert "not enough evidence" in unknown.judgement.reason and "data/a.png" in unknown.judgement.reason
    assert str(retrained) not in unknown.judgement.reason, (
        "decisions are shared, paths of one machine are not"
    )


def test_a_kill_between_decision_and_promotion_is_mended(
    retrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "w"
    fresh(retrained, root)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(judging.registry, "promote", killed)
        main(root)
    assert (root / "decisions/0001-promote.json").is_file()
    assert not any("champion" in v.aliases for v in versions(root))
    outcome = main(root)
    assert outcome.judgement.verdict == "promote" and outcome.judgement.champion.version == "1"
    assert (
        len(list((root / "decisions").glob("*.json"))) == 1 and len(versions(root)) == 1 and runs(root) == 7
    )


def fresh(finished: Path, root: Path) -> None:
    """The miniature line with its stages' run cache, but nothing logged or decided."""
    small_line.make_workspace(root)
    shutil.copytree(finished / ".dvc" / "cache", root / ".dvc" / "cache")


def test_a_refused_input_ends_with_its_line(
    tmp_path: Path, prefect_api: None, capsys: pytest.CaptureFixture[str]
) -> None:
    small_line.make_workspace(tmp_path)
    small_line.set_quality(tmp_path, refuse=1)
    with pytest.raises(FlawlineError, match=r"^castings/a\.png: zero bytes — replace the file$"):
        main(tmp_path)
    assert not (tmp_path / "results").exists() and not (tmp_path / "decisions/0001-promote.json").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    small_line.make_workspace(tmp_path)
    done = command(tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    output = done.communicate(timeout=120)[0]
    assert done.returncode != 0 and "Prefect server http://127.0.0.1:9/api cannot be reached" in output


def command(root: Path, **environment: str) -> subprocess.Popen[str]:
    """`flawline retrain` in a process of its own, with Prefect's embedded API."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from flows.retrain import main; main(Path('.'))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT)],
        cwd=root,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def marked(root: Path) -> list[int]:
    """Processes that a retraining in this workspace started."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if json.loads(process.environ().get(OWNER, "[0, 0, 0]"))[2] == str(root):
                found.append(process.pid)
        except (psutil.Error, ValueError):
            continue
    return found


@pytest.mark.slow
def test_kill_9_in_the_middle_then_the_same_command_finishes(
    retrained: Path, tmp_path: Path, prefect_api: None
) -> None:
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "disturbed"
    fresh(retrained, undisturbed)
    main(undisturbed)
    small_line.make_workspace(root)
    first = command(root, SMALL_LINE_SLEEP="300")
    log = root / ".state" / "logs" / "evaluate@boards.log"
    wait_for(lambda: log.is_file() and "evaluate boards begins" in log.read_text(), first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    orphans = marked(root)
    assert len(orphans) >= 2, "the running stage and Prefect's server live on"
    assert not (root / "results").exists()

    second = command(root)
    output = second.communicate(timeout=300)[0]
    assert second.returncode == 0, output
    assert "left by a killed run" in output and "tune: " not in output
    assert not set(orphans) & set(marked(root))
    assert results(root) == results(undisturbed)
    assert (len(versions(root)), runs(root)) == (1, 7)
    wait_for(lambda: not marked(root), None)


def wait_for(condition, process) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)
