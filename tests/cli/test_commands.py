"""Each command calls what it should, with what it was given, and says what came of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flawline.cli.app import run
from flawline.workspace import Cell, Workspace

# --- stages -------------------------------------------------------------------------------------------

TUNE = ("--method", "words", "--train", "castings", "--seed", "1")
STAGES: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "manifest": ((), ()),
    "checks": ((), ()),
    "synthesize": (("--train", "castings"), ("castings",)),
    "features": (("--part", "test", "--set", "boards"), ("test", "boards")),
    "tune": (TUNE, (Cell("words", "castings", 1),)),
    "evaluate": ((*TUNE, "--test", "boards"), (Cell("words", "castings", 1), "boards")),
    "compare": ((), ()),
    "report": ((), ()),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_command_calls_its_stage_in_the_workspace(
    at: Workspace, stub: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = stub(f"flawline.stages.{name}", "run")
    options, expected = STAGES[name]
    assert run(["stage", name, *options]) == 0
    [(workspace, settings, *rest)] = calls
    assert workspace == at and settings.data.train == ["castings"] and tuple(rest) == expected
    assert Path.cwd() == at.root


def test_a_stage_refuses_wrong_params(
    at: Workspace, stub: Callable[..., list], one_error: Callable[[], str]
) -> None:
    calls = stub("flawline.stages.manifest", "run")
    at.params.write_text(at.params.read_text().replace("min_good: 8", "min_good: eight"), encoding="utf-8")
    assert run(["stage", "manifest"]) == 2
    assert "checks.min_good" in one_error()
    assert calls == []


# --- data ---------------------------------------------------------------------------------------------


def test_data_add_takes_in_and_versions(
    at: Workspace, stub: Callable[..., list], tmp_path: Path, capsys: Any
) -> None:
    added = stub("flawline.data.ingest", "add_dataset", returns={"message": "added parts: 3 images"})
    tracked = stub("flawline.data.versioning", "track_data", returns=True)
    source = str(tmp_path / "some parts")
    assert run(["data", "add", source, "--name", "parts", "--layout", "folder", "--replace"]) == 0
    assert added == [(at, Path(source), "parts", "folder", True)]
    assert tracked == [(at,)]
    assert "added parts: 3 images" in capsys.readouterr().out


def test_data_add_of_a_missing_folder(at: Workspace, one_error: Callable[[], str]) -> None:
    assert run(["data", "add", "not there", "--name", "parts"]) == 2
    assert "not there" in one_error()


def test_data_list_of_an_empty_workspace(at: Workspace, capsys: Any) -> None:
    assert run(["data", "list"]) == 0
    assert "flawline data add" in capsys.readouterr().out


def test_data_check_runs_both_stages_and_shows_the_summary(
    at: Workspace, stub: Callable[..., list], capsys: Any
) -> None:
    order = [stub("flawline.stages.manifest", "run"), stub("flawline.stages.checks", "run")]
    summary = {
        "ok": True,
        "expectations": [
            {"name": "a", "severity": "critical", "ok": True, "what": "A.", "offenders": []},
            {"name": "b", "severity": "warning", "ok": False, "what": "B.", "offenders": ["x"]},
        ],
        "counts": {"boards": {"pcb": {"good_train": 4, "good_test": 2, "scratch": 3}}},
    }
    at.checks.mkdir(parents=True)
    (at.checks / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert run(["data", "check"]) == 0
    assert [len(calls) for calls in order] == [1, 1]
    out = capsys.readouterr().out
    assert "scratch 3" in out and "1 of 2 checks passed" in out


# --- retrain ------------------------------------------------------------------------------------------


@pytest.fixture
def flow(at: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bool]]:
    """A flows/retrain.py in the workspace that records how it was called."""
    (at.root / "flows").mkdir()
    (at.root / "flows" / "retrain.py").write_text("", encoding="utf-8")
    calls: list[tuple[Path, bool]] = []
    package, module = ModuleType("flows"), ModuleType("flows.retrain")

    def main(root: Path, force: bool, meanwhile: Callable[[], None]) -> None:
        meanwhile()
        calls.append((root, force))

    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flows", package)
    monkeypatch.setitem(sys.modules, "flows.retrain", module)
    return calls


def test_retrain_calls_the_flow(at: Workspace, flow: list) -> None:
    assert run(["retrain"]) == 0
    assert run(["retrain", "--force"]) == 0
    assert flow == [(at.root, False), (at.root, True)]


def test_retrain_sets_params_first(at: Workspace, flow: list) -> None:
    assert run(["retrain", "--set", "tune.seeds=[5]", "--set", "gate.margin=0.1"]) == 0
    text = at.params.read_text(encoding="utf-8")
    assert "seeds: [5]" in text and "margin: 0.1" in text and "# relative weights" in text
    assert len(flow) == 1


def test_retrain_with_a_wrong_value_changes_nothing(
    at: Workspace, flow: list, one_error: Callable[[], str]
) -> None:
    before = at.params.read_bytes()
    assert run(["retrain", "--set", "tune.seeds=none"]) == 2
    assert "tune.seeds" in one_error()
    assert at.params.read_bytes() == before and flow == []


def test_retrain_names_an_unknown_method_before_anything_runs(
    at: Workspace, flow: list, one_error: Callable[[], str]
) -> None:
    text = at.params.read_text(encoding="utf-8").replace("human_free", "humanfree")
    at.params.write_text(text, encoding="utf-8")
    assert run(["retrain"]) == 2
    error = one_error()
    assert "methods.humanfree" in error and "human_free?" in error
    assert flow == []


def test_retrain_refuses_a_wrong_option_before_anything_runs(
    at: Workspace, flow: list, one_error: Callable[[], str]
) -> None:
    text = at.params.read_text(encoding="utf-8")
    assert "change: {abnormal_prompts: 1}" in text
    at.params.write_text(text.replace("{abnormal_prompts: 1}", "{abnormal_prompts: 0}"), encoding="utf-8")
    assert run(["retrain"]) == 2
    error = one_error()
    assert "faprompt" in error and "abnormal_prompts" in error and flow == []


def test_retrain_without_flows(at: Workspace, one_error: Callable[[], str]) -> None:
    assert run(["retrain"]) == 2
    assert "flows/retrain.py" in one_error()


# --- registry -----------------------------------------------------------------------------------------


def test_history_shows_decisions(at: Workspace, stub: Callable[..., list], capsys: Any) -> None:
    from flawline.track.registry import Event

    one = {"version": "1", "method": "words", "train_set": "castings", "seed": 0, "sha256": "0" * 64}
    two = {**one, "version": "2", "method": "human_free"}
    events = [Event(1, "promote", two, one, "better [in] the mean", ("champion",))]
    stub("flawline.track.registry", "history", returns=events)
    assert run(["history"]) == 0
    out = capsys.readouterr().out
    for text in ("0001", "promote", "2: human_free, castings, seed 0", "1: words", "better [in] the mean"):
        assert text in out


def test_history_before_any_decision(at: Workspace, stub: Callable[..., list], capsys: Any) -> None:
    stub("flawline.track.registry", "history", returns=[])
    assert run(["history"]) == 0
    assert "no decision yet" in capsys.readouterr().out


def test_rollback_says_who_serves_now(at: Workspace, stub: Callable[..., list], capsys: Any) -> None:
    from flawline.track.registry import Version

    back, taken = (Version(str(n), "0" * 64, "words", "castings", n) for n in (1, 2))
    stub("flawline.track.registry", "rollback", returns=(back, taken))
    assert run(["rollback"]) == 0
    assert "champion is version 1 (words, castings, seed 1) again" in capsys.readouterr().out
