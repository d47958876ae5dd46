"""Promotion by hand: verified, written down, and the gate respects it."""

import shutil
from pathlib import Path

import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.gate import decisions
from flawline.settings import Settings, load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Workspace
from flows.promote import main, promote


@pytest.fixture
def place(tmp_path: Path) -> tuple[Workspace, Settings]:
    """A registry with two versions and no champion."""
    (tmp_path / "params.yaml").write_text(small_line.PARAMS)
    workspace, settings = Workspace(tmp_path), load_settings(tmp_path / "params.yaml")
    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    for seed in (0, 1):
        folder = small_line.write_prompt_set(tmp_path / f"p{seed}", "learned", seed, 0.9)
        registry.register(workspace, settings, folder, run_id)
    return workspace, settings


def test_a_person_may_promote_and_it_is_written_down(place: tuple[Workspace, Settings]) -> None:
    workspace, settings = place
    assert promote(workspace, settings, "1").version == "1"
    assert promote(workspace, settings, "2").version == "2"
    assert promote(workspace, settings, "champion").version == "2", "nothing to do, nothing written"
    rows = decisions.history(workspace)
    assert [(r["verdict"], r["against"]) for r in rows] == [("promote", "hand")] * 2
    assert rows[1]["champion"]["version"] == "1" and rows[1]["challenger"]["version"] == "2"
    registry.rollback(workspace, settings)
    assert decisions.was_rolled_back(workspace, rows[1]["challenger"]["sha256"])
    promote(workspace, settings, "2")
    assert not decisions.was_rolled_back(workspace, rows[1]["challenger"]["sha256"])


def test_what_is_not_there_or_damaged_is_refused(place: tuple[Workspace, Settings]) -> None:
    workspace, settings = place
    with pytest.raises(FlawlineError, match="'9'"):
        promote(workspace, settings, "9")
    for folder in (workspace.state / "mlflow" / "artifacts" / "models").rglob("prompt_set"):
        shutil.rmtree(folder)
    with pytest.raises(FlawlineError, match="version 1"):
        promote(workspace, settings, "1")
    assert decisions.history(workspace) == []
    assert registry.by_alias(workspace, settings, registry.CHAMPION) is None


def test_the_command_line(
    place: tuple[Workspace, Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place[0].root)
    assert main(["1"]) == 0 and "'version': '1'" in capsys.readouterr().out
    assert main([]) == 2 and main(["x"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
