"""What a run keeps of the files it was made from."""

import json
import subprocess
from pathlib import Path

import pytest

from flawline.settings import Settings
from flawline.track.origin import changes, machine, unlike, write_origin
from flawline.workspace import Workspace


def git(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, input=given, capture_output=True, check=True
    ).stdout


@pytest.fixture
def committed(tmp_path: Path) -> Workspace:
    """A line whose one stage reads code/ and quality.json; all of it committed, data and outputs ignored."""
    root = tmp_path / "wörk space"
    (root / "code").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "code" / "a.py").write_text("1\n")
    (root / "quality.json").write_text("{}\n")
    (root / "notes.env").write_text("KEY=\n")
    (root / "params.yaml").write_text("x: 1\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "data.dvc").write_text("outs: [{md5: 1.dir, path: data}]\n")
    (root / ".gitignore").write_text("/data\n/out\n")
    deps = [{"path": path, "md5": "1"} for path in ("code", "quality.json", "data", "out/between")]
    stages = {"make": {"cmd": "x", "deps": deps, "outs": [{"path": "out/between", "md5": "2"}]}}
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return Workspace(root)


def test_nothing_changed_is_no_patch(committed: Workspace) -> None:
    (committed.root / "data" / "image.png").write_bytes(b"x")
    (committed.root / "dvc.lock").write_text((committed.root / "dvc.lock").read_text() + "\n")
    assert changes(committed) == b""


def test_the_patch_makes_the_same_files_again(committed: Workspace, tmp_path: Path) -> None:
    root = committed.root
    (root / "code" / "a.py").write_text("2\n")
    (root / "code" / "new file ü.bin").write_bytes(bytes(range(256)))
    (root / "quality.json").unlink()
    (root / "params.yaml").write_text("x: 2\n")
    (root / "notes.env").write_text("KEY=planted-secret\n")
    (root / "stray.txt").write_text("planted-secret\n")
    before = git(root, "status", "--porcelain"), sorted((root / ".git").rglob("*"))
    git(root, "config", "diff.noprefix", "true")
    patch = changes(committed)
    assert b"planted-secret" not in patch
    assert (git(root, "status", "--porcelain"), sorted((root / ".git").rglob("*"))) == before
    git(tmp_path, "clone", "-q", str(root), "clone")
    git(tmp_path / "clone", "apply", "--binary", "-", given=patch)
    clone = tmp_path / "clone"
    assert (clone / "code" / "a.py").read_text() == "2\n" and not (clone / "quality.json").exists()
    assert (clone / "code" / "new file ü.bin").read_bytes() == bytes(range(256))
    assert (clone / "params.yaml").read_text() == "x: 2\n" and (clone / "notes.env").read_text() == "KEY=\n"


def test_without_git_there_is_no_patch(workspace: Workspace, settings: Settings, tmp_path: Path) -> None:
    assert changes(workspace) == b""
    (tmp_path / "kept").mkdir()
    write_origin(workspace, settings, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"dvc.lock", "machine.json"}
    assert (tmp_path / "kept" / "dvc.lock").read_bytes() == workspace.lock.read_bytes()


def test_dvc_does_not_take_what_is_kept_for_its_own(
    committed: Workspace, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    write_origin(committed, settings, tmp_path / "kept")
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"dvc.lock", "dvc.yaml.txt", "data.dvc.txt", "machine.json"}
    assert (tmp_path / "kept" / "data.dvc.txt").read_text() == (committed.root / "data.dvc").read_text()


def test_machines_are_told_apart_by_what_both_say() -> None:
    here = machine(2)
    assert here["threads"] == 2 and here["packages"]["torch"] and unlike(here, here) == []
    other = {**here, "threads": 1, "packages": {**here["packages"], "torch": "1.0", "gone": "3"}}
    assert unlike(other, here) == [
        "threads: recorded 1, here 2",
        f"torch: recorded 1.0, here {here['packages']['torch']}",
    ]
    assert unlike({}, here) == []
