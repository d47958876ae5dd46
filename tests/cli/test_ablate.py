"""`flawline ablate`: what it lists, what it hands on, and what it refuses before anything heavy starts."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flawline.cli.app import run
from flawline.settings import load_settings
from flawline.workspace import Cell, VariantWorkspace, Workspace


@pytest.fixture
def flow(at: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """flows/ablate.py is there; what its main was given."""
    calls: list[tuple[Any, ...]] = []
    table = at.ablation_tables / "m.md"
    table.parent.mkdir(parents=True)
    table.write_text("#### Ablation of m\n")

    def main(root: Path, methods: list[str], seeds: list[int], parts: list[str], force: bool) -> list[Any]:
        calls.append((root, methods, seeds, parts, force))
        stages = {"tune-default@a-0": "ran", "tune-x@a-0": "unchanged"}
        return [SimpleNamespace(table=table, stages=stages, run_id="abc", logged=False) for _ in methods]

    module = ModuleType("flows.ablate")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flows", ModuleType("flows"))
    monkeypatch.setitem(sys.modules, "flows.ablate", module)
    (at.root / "flows").mkdir()
    (at.root / "flows" / "ablate.py").write_text("")
    return calls


def test_without_a_method_all_variants_are_listed(
    at: Workspace, flow: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ablate"]) == 0
    out = capsys.readouterr().out
    for method, variants in load_settings(at.params).ablations.items():
        for name, one in variants.items():
            assert any(
                line.split()[:2] == [method, name] and one.part in line for line in out.splitlines()
            ), name
    assert flow == []


def test_it_hands_on_what_it_was_given(
    at: Workspace, flow: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "0, 2,0", "--part", "MPTS", "--part", "no_laa", "--force"]
    assert run(["ablate", "human_free", "words", *options]) == 0
    assert flow == [(at.root, ["human_free", "words"], [0, 2], ["MPTS", "no_laa"], True)]
    out = capsys.readouterr().out
    assert "#### Ablation of m" in out and "1 of 2 had to run" in out and "run abc, logged before" in out
    assert "m.md and m.csv" in out


def test_all_are_those_that_params_describes(at: Workspace, flow: list[Any]) -> None:
    assert run(["ablate", "--all"]) == 0
    assert flow == [(at.root, list(load_settings(at.params).ablations), [], [], False)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["words", "--seeds", "0,x"], "--seeds 0,x is no list of seeds"),
        (["words", "--seeds", "0,-1"], "--seeds 0,-1 is no list of seeds"),
        (["words", "--sedes", "0"], "--sedes"),
    ],
)
def test_wrong_options_are_refused(
    flow: list[Any], one_error: Callable[[], str], options: list[str], told: str
) -> None:
    assert run(["ablate", *options]) == 2
    assert told in one_error() and flow == []


def test_a_wrong_variant_is_refused_before_the_flow(
    at: Workspace, flow: list[Any], one_error: Callable[[], str]
) -> None:
    text = at.params.read_text(encoding="utf-8")
    at.params.write_text(
        text.replace("change: {guidance: none}}", "change: {guidanse: none}}", 1), encoding="utf-8"
    )
    assert run(["ablate", "words"]) == 2
    assert "ablations.human_free.no_mpts: methods.human_free.guidanse" in one_error() and flow == []


def test_outside_a_checkout_it_says_so(at: Workspace, one_error: Callable[[], str]) -> None:
    assert run(["ablate", "words"]) == 2
    assert "flows/ablate.py" in one_error()


# --- the stages of a variant -----------------------------------------------------------------------------

TUNE = ("--method", "human_free", "--train", "castings", "--seed", "1")
STAGES: dict[str, tuple[str, ...]] = {
    "synthesize": ("--train", "castings"),
    "features": ("--part", "test", "--set", "boards"),
    "tune": TUNE,
    "evaluate": (*TUNE, "--test", "boards"),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_of_a_variant_gets_its_workspace_and_settings(
    at: Workspace, stub: Callable[..., list[Any]], name: str
) -> None:
    calls = stub(f"flawline.stages.{name}", "run")
    assert run(["stage", name, *STAGES[name], "--variant", "human_free@no_mpts"]) == 0
    [(place, settings, *_)] = calls
    assert isinstance(place, VariantWorkspace) and place.root == at.root
    cell = Cell("human_free", "castings", 1)
    assert place.prompts(cell) == at.ablation("human_free") / "no_mpts" / "prompts" / cell.folder
    assert settings.methods["human_free"]["guidance"] == "none"


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("words@no_laa", "is a variant of words, not of human_free"),
        ("human_free", "names no variant"),
        ("human_free@nothing", "has no 'nothing'"),
    ],
)
def test_a_wrong_variant_of_a_stage_is_refused(
    at: Workspace, stub: Callable[..., list[Any]], one_error: Callable[[], str], variant: str, told: str
) -> None:
    calls = stub("flawline.stages.tune", "run")
    assert run(["stage", "tune", *TUNE, "--variant", variant]) == 2
    assert told in one_error() and calls == []
