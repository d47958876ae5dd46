"""Two retrainings that want to promote at once: one wins, the other is judged against the winner."""

import json
from pathlib import Path

import pytest
import rivals

import small_line
from flawline.cli.app import run
from flawline.gate import decisions
from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.log import LoggedRun, cells
from flawline.track.store import open_store
from flawline.workspace import Workspace
from flows import judge as judging


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    small_line.finish(root)
    return root


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    root = rivals.workspace_of(finished, tmp_path / "place", "small", 0.95)
    monkeypatch.chdir(root)
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(root))
    return Workspace(root)


def logged(workspace: Workspace) -> LoggedRun:
    settings = load_settings(workspace.params)
    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    return LoggedRun(run_id, "r", True, {cell.name: run_id for cell in cells(settings)})


@pytest.mark.slow
def test_of_two_processes_on_one_sqlite_store_one_wins(finished: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    MlflowClient(uri).create_experiment("small", artifact_location=(tmp_path / "artifacts").as_uri())
    roots = [
        rivals.workspace_of(finished, tmp_path / f"w{n}", "small", q) for n, q in enumerate((0.95, 0.85))
    ]
    found = rivals.judge_both(roots, uri, tmp_path)
    first, second = rivals.one_wins(roots, found)
    served = MlflowClient(uri).get_model_version_by_alias("small", "champion")
    winner = second if found[second]["verdict"] == "promote" else first
    assert str(served.version) == found[winner]["challenger"]
    assert not MlflowClient(uri).search_model_versions("name = 'small.turns'")


def test_a_decision_is_shown_and_taken_again(place: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(place.params)
    assert judging.judge(place, settings, logged(place)).verdict == "promote"
    assert run(["history", "1"]) == 0
    told = capsys.readouterr().out
    assert "decision   0001: promote" in told and "measured against: baseline words" in told
    assert "boards, crack: image AUROC is not worse by 0.1" in told
    assert "mean of the test sets, worst seed" in told and "24 + 24" in told
    assert run(["history", "1", "--check"]) == 0
    assert "the same verdict, and" in capsys.readouterr().out

    path = place.decisions / "0001-promote.json"
    record = json.loads(path.read_text())
    record["tests"][0]["difference"] += 0.01
    path.write_text(json.dumps(record))
    assert run(["history", "1", "--check"]) == 1
    assert "differs" in capsys.readouterr().out
    name = record["inputs"]["other"]["evaluations"]["boards"]["folder"] + "/scores.parquet"
    assert name.startswith("out/evaluation/words/castings/")
    scores = place.root / name
    scores.write_bytes(scores.read_bytes() + b" ")
    assert run(["history", "1", "--check"]) == 2
    assert name in capsys.readouterr().err
    assert run(["history", "7"]) == 2 and run(["history", "--check"]) == 2


def test_other_settings_are_judged_anew(place: Workspace) -> None:
    """Who widens a margin must not get the old answer."""
    strict = load_settings(place.params)
    strict = strict.model_copy(update={"gate": strict.gate.model_copy(update={"min_images": 30})})
    run = logged(place)
    first = judging.judge(place, strict, run)
    assert first.verdict == "stay" and "24 good and 24 defective images, and 30" in first.reason
    assert judging.judge(place, strict, run).decision == first.decision
    second = judging.judge(place, load_settings(place.params), run)
    assert second.verdict == "promote" and second.decision != first.decision


def test_a_champion_that_changes_all_the_time_ends_with_a_word(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flawline.errors import FlawlineError

    settings, run = load_settings(place.params), logged(place)
    numbers = iter(range(99))
    monkeypatch.setattr(judging, "_sha", lambda version: str(next(numbers)))
    with pytest.raises(FlawlineError, match="the champion changed 5 times"):
        judging.judge(place, settings, run)
    assert decisions.history(place) == [], "nothing was written down"


def test_a_rollback_need_not_wait_for_a_judge(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes long; a person who takes a champion back meanwhile is served, and the judge starts again."""
    settings, run = load_settings(place.params), logged(place)
    for seed in (0, 1):
        folder = small_line.write_prompt_set(place.root / f"old{seed}", "learned", seed, 0.5 + seed / 10)
        version = registry.register(place, settings, folder, run.run_id)
        registry.promote(place, settings, version)
    monkeypatch.setattr("flawline.stages.evaluate.run", _measured)
    decide, against = judging.decide, []

    def interrupted(*given, **named):  # type: ignore[no-untyped-def]
        against.append(given[1].described["version"])
        if len(against) == 1:
            registry.rollback(place, settings)
        return decide(*given, **named)

    monkeypatch.setattr(judging, "decide", interrupted)
    found = judging.judge(place, settings, run)
    assert against == ["2", "1"] and found.verdict == "promote"
    assert [row["verdict"] for row in decisions.history(place)] == ["rollback", "promote"]
    assert decisions.history(place)[1]["champion"]["version"] == "1"


def _measured(place, settings, cell, test) -> None:  # type: ignore[no-untyped-def]
    from safetensors.numpy import load_file

    [quality] = set(load_file(place.prompts(cell) / "prompts.safetensors")["context"].ravel().tolist())
    small_line.write_evaluation(place.evaluation(cell, test), test, "learned", cell.seed, quality)
