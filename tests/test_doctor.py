"""doctor finds what is broken, says how to mend it, raises nothing and repairs nothing."""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from flawline import doctor
from flawline.cli.app import run
from flawline.doctor import Finding, examine
from flawline.workspace import Workspace


@pytest.fixture
def whole(workspace: Workspace) -> Workspace:
    """A workspace in which nothing is broken, as far as doctor looks."""
    (workspace.root / ".dvc").mkdir()
    for name in ("castings", "boards", "fabrics"):
        (workspace.data / name).mkdir(parents=True)
    workspace.backbones.mkdir()
    (workspace.backbones / "flawline-tiny.safetensors").write_bytes(b"x" * 1000)
    return workspace


def findings(workspace: Workspace) -> dict[str, Finding]:
    return {item.what: item for item in examine(workspace.root)}


def test_a_sound_workspace_has_nothing_broken(whole: Workspace) -> None:
    found = findings(whole)
    assert [item for item in found.values() if item.broken] == []
    assert {"python", "packages", "torchvision", "locale", "threads", "git", "disk"} <= set(found)
    assert {"workspace", "params", "dvc", "data", "backbone", "state", "registry"} <= set(found)
    assert found["registry"].level == "note" and "retrain" in found["registry"].remedy


def test_looking_leaves_only_the_state_folder(whole: Workspace) -> None:
    before = set(whole.root.rglob("*"))
    list(examine(whole.root))
    assert set(whole.root.rglob("*")) - before <= {whole.state}


def break_params(workspace: Workspace) -> None:
    workspace.params.write_text("data: [", encoding="utf-8")


def remove_dvc(workspace: Workspace) -> None:
    (workspace.root / ".dvc").rmdir()


def remove_data(workspace: Workspace) -> None:
    (workspace.data / "boards").rmdir()


def remove_backbone(workspace: Workspace) -> None:
    shutil.rmtree(workspace.backbones)


def block_state(workspace: Workspace) -> None:
    workspace.state.write_text("a file where a folder should be")


def spoil_store(workspace: Workspace) -> None:
    (workspace.state / "mlflow").mkdir(parents=True)
    (workspace.state / "mlflow" / "mlflow.db").write_bytes(b"this is no database" * 100)


@pytest.mark.parametrize(
    ("damage", "what", "says"),
    [
        (break_params, "params", "params.yaml"),
        (remove_dvc, "dvc", "dvc init"),
        (remove_data, "data", "data/boards"),
        (remove_backbone, "backbone", "dvc pull backbones.dvc"),
        (block_state, "state", "writable"),
        (spoil_store, "registry", "mlflow.db"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_damage_is_found_and_a_remedy_named(whole: Workspace, damage: Any, what: str, says: str) -> None:
    damage(whole)
    item = findings(whole)[what]
    assert item.broken and item.remedy
    assert says in f"{item.found} {item.remedy}"


def test_a_package_outside_its_cap_is_named(whole: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "2.1.9" if name.lower() == "sqlalchemy" else real(name)
    )
    item = findings(whole)["packages"]
    assert item.broken and "sqlalchemy 2.1.9" in item.found and "<2.1" in item.found
    assert "constraints.txt" in item.remedy


def test_a_missing_package_is_named(whole: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "fastapi":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "fastapi is missing" in findings(whole)["packages"].found


@pytest.mark.parametrize(
    ("value", "level"), [("many", "broken"), ("0", "broken"), ("100000", "note"), ("1", "fine")]
)
def test_threads(whole: Workspace, monkeypatch: pytest.MonkeyPatch, value: str, level: str) -> None:
    monkeypatch.setenv("FLAWLINE_THREADS", value)
    assert findings(whole)["threads"].level == level


def test_a_nearly_full_disk(whole: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 10**8})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert findings(whole)["disk"].broken


def test_no_git(whole: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(doctor.shutil, "which", lambda name, **k: None if name == "git" else real(name, **k))
    assert findings(whole)["git"].broken


def test_another_encoding_than_utf8(whole: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "getfilesystemencoding", lambda: "latin-1")
    item = findings(whole)["locale"]
    assert item.broken and "UTF-8" in item.remedy


def test_outside_a_workspace_the_machine_is_still_looked_at(tmp_path: Path) -> None:
    found = {item.what: item for item in examine(tmp_path)}
    assert found["workspace"].broken and not found["python"].broken


def test_the_command_ends_with_1_if_something_is_broken(
    whole: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(whole.root))
    assert run(["doctor"]) == 0
    assert "everything works" in capsys.readouterr().out
    remove_data(whole)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "✗ data: run: " in out and "everything works" not in out
