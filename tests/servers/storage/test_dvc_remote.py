"""The DVC remote in a bucket: pushed from one clone, pulled in another, away while a retraining pulls; a rerun."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_line
from aftermath import assert_sound_and_repeatable
from flawline.errors import FlawlineError
from flawline.settings import load_settings
from flawline.track.store import embedded_uri
from flawline.workspace import Workspace
from servers.storage.conftest import empty
from servers.storage.weed import SECRET, Weed

IMAGES = {f"{n}.bin": bytes([n]) * 5000 for n in range(40)}


def run(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return run(root, "git", *who, *arguments)


def dvc(root: Path, *arguments: str) -> str:
    return run(root, sys.executable, "-m", "dvc", "-q", *arguments)


@pytest.fixture
def line(s3: Any, weed: Weed, tmp_path: Path) -> Iterator[Path]:
    """The miniature line under git with its data in the bucket, as docs/operations.md says it; nothing run yet."""
    s3.create_bucket(Bucket="dvc-store")
    root = tmp_path / "work space"
    small_line.make_workspace(root)
    described = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(described.replace("quality.json]", "quality.json, data]", 1))
    (root / "data").mkdir()
    for name, content in IMAGES.items():
        (root / "data" / name).write_bytes(content)
    (root / ".gitignore").write_text(
        "/out/\n/reports/\n/.state/\n/.flawline/\n/data\n/.dvc/cache/\n/.dvc/tmp/\n"
    )
    git(root, "init", "-q")
    dvc(root, "add", "data")
    dvc(root, "remote", "add", "-d", "bucket", "s3://dvc-store/flawline")
    dvc(root, "remote", "modify", "bucket", "endpointurl", weed.endpoint)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "line")
    dvc(root, "push")
    yield root
    empty(s3, "dvc-store")
    s3.delete_bucket(Bucket="dvc-store")


def test_pushed_from_one_clone_pulled_in_another(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flawline.data.versioning import pull

    git(tmp_path, "clone", "-q", str(line), "clone")
    clone = tmp_path / "clone"
    assert not (clone / ".dvc" / "cache").exists()
    with monkeypatch.context() as patched:
        patched.setenv("AWS_SECRET_ACCESS_KEY", "another-planted-secret")
        with pytest.raises(
            FlawlineError, match=r"data\.dvc: the DVC remote cannot be read: .*Forbidden"
        ) as error:
            pull(Workspace(clone))
        assert "\n" not in str(error.value) and "planted" not in str(error.value)
        assert not (clone / "data").exists()
    assert pull(Workspace(clone))["data.dvc"] == "pulled"
    assert {p.name: p.read_bytes() for p in (clone / "data").iterdir()} == IMAGES
    for file in [*(clone / ".dvc").rglob("*"), *line.glob("*")]:
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_away_while_a_retraining_pulls_then_back_then_rerun_from_a_clone(
    line: Path,
    weed: Weed,
    tmp_path: Path,
    prefect_api: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from flows.rerun import rerun
    from flows.retrain import main

    shutil.rmtree(line / "data")
    shutil.rmtree(line / ".dvc" / "cache")
    before = git(line, "status", "--porcelain")
    weed.kill()
    try:
        with pytest.raises(FlawlineError, match=r"the DVC remote cannot be read.*the network") as error:
            main(line)
        assert "\n" not in str(error.value)
    finally:
        weed.start()
    assert git(line, "status", "--porcelain") == before and not (line / "results").exists()

    outcome = main(line)
    assert outcome.judgement.verdict == "promote"
    assert {p.name: p.read_bytes() for p in (line / "data").iterdir()} == IMAGES
    assert_sound_and_repeatable(line, besides=("data",))  # files, but no data sets

    monkeypatch.setenv("MLFLOW_TRACKING_URI", embedded_uri(Workspace(line)))
    git(tmp_path, "clone", "-q", str(line), "clone")
    clone = tmp_path / "clone"
    assert not (clone / ".dvc" / "cache").exists()
    found = rerun(Workspace(clone), load_settings(clone / "params.yaml"), outcome.run_id)
    assert found.same and found.computed and len(found.stages) == 4
    assert "the workspace's own cache" not in capfd.readouterr().err
