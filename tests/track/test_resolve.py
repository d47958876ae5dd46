"""The last good champion goes on serving where the present one is damaged or out of reach."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_folder
from flawline.settings import Settings
from flawline.track import registry
from flawline.track.resolve import last_good, resolve
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace


@pytest.fixture
def two(workspace: Workspace, settings: Settings) -> list[registry.Version]:
    """Version 1 is champion and was used here; version 2 is registered and was never fetched."""
    store = open_store(workspace, settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    found = [
        registry.register(workspace, settings, workspace.prompts(Cell("learned", "castings", seed)), run_id)
        for seed in (0, 1)
    ]
    registry.promote(workspace, settings, found[0])
    assert sha256_folder(resolve(workspace, settings, "champion")) == found[0].sha256
    return found


def stored(workspace: Workspace, version: registry.Version) -> Path:
    """The registry's own files of a version."""
    folders = (workspace.state / "mlflow" / "artifacts" / "models").rglob("prompt_set")
    [folder] = [folder for folder in folders if sha256_folder(folder) == version.sha256]
    return folder


def flip(folder: Path) -> None:
    path = folder / "prompts.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def cut(folder: Path) -> None:
    path = folder / "prompts.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def strip(folder: Path) -> None:
    (folder / "card.json").unlink()


@pytest.mark.parametrize("damage", [flip, cut, strip, shutil.rmtree])
def test_a_damaged_champion_is_not_served(
    workspace: Workspace, settings: Settings, two: list[registry.Version], damage: Callable[[Path], None]
) -> None:
    damage(stored(workspace, two[1]))
    registry.promote(workspace, settings, two[1])
    told: list[str] = []
    folder = resolve(workspace, settings, "champion", told.append)
    assert sha256_folder(folder) == two[0].sha256
    [line] = told
    assert "the last good champion, version 1, goes on serving: version 2" in line and "\n" not in line
    for ref, warn in (("champion", None), ("2", told.append)):
        with pytest.raises(FlawlineError, match="version 2"):
            resolve(workspace, settings, ref, warn)
    assert len(told) == 1, "only the champion has a stand-in, and only where it is asked for"


def test_a_sound_champion_becomes_the_last_good_one(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    resolve(workspace, settings, "2", print)
    found = last_good(workspace, settings)
    assert found is not None and found[0] == "1", "an old version that is looked at is no champion"
    registry.promote(workspace, settings, two[1])
    resolve(workspace, settings, "champion", print)
    found = last_good(workspace, settings)
    assert found is not None and (found[0], sha256_folder(found[1])) == ("2", two[1].sha256)


def test_a_registry_that_is_away_is_no_reason_to_stop(
    workspace: Workspace, settings: Settings, two: list[registry.Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told: list[str] = []
    assert sha256_folder(resolve(workspace, settings, "champion", told.append)) == two[0].sha256
    assert len(told) == 1 and "version 1, goes on serving" in told[0]


def test_without_a_last_good_one_the_error_stands(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    flip(stored(workspace, two[1]))
    registry.promote(workspace, settings, two[1])
    kept = workspace.state / "prompts" / two[0].sha256 / "card.json"
    kept.write_text(kept.read_text().replace("castings", "casting5"))
    with pytest.raises(FlawlineError, match="version 2 is damaged"):
        resolve(workspace, settings, "champion", pytest.fail)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "small", "sha256": "../../x", "version": "1"}'])
def test_a_damaged_note_stands_in_for_nothing(
    workspace: Workspace, settings: Settings, two: list[registry.Version], text: str
) -> None:
    (workspace.state / "prompts" / "last_good.json").write_text(text)
    assert last_good(workspace, settings) is None
    resolve(workspace, settings, "champion")
    found = last_good(workspace, settings)
    assert found is not None and found[0] == "1", "it is written anew"


def test_another_models_champion_stands_in_for_nothing(
    workspace: Workspace, settings: Settings, two: list[registry.Version]
) -> None:
    assert read_json(workspace.state / "prompts" / "last_good.json")["model"] == "small"
    track = settings.track.model_copy(update={"model": "other"})
    assert last_good(workspace, settings.model_copy(update={"track": track})) is None
