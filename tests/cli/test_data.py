"""`flawline data add` on what it takes: a folder, an archive, a bucket; whole, with DVC."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawline.cli.app import run
from flawline.workspace import Workspace


@pytest.fixture
def versioned(at: Workspace) -> Workspace:
    from dvc.repo import Repo

    Repo.init(str(at.root), no_scm=True).close()
    return at


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for place in ("good/0", "good/1", "good/2", "scratch/0"):
        path = tmp_path / "parts" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(place.encode())).integers(0, 256, (72, 72, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return tmp_path / "parts"


def test_an_archive_is_taken_in_and_versioned(versioned: Workspace, parts: Path, capsys: Any) -> None:
    archive = parts.parent / "parts.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(parts.rglob("*.png")):
            target.write(path, path.relative_to(parts))
    before = archive.read_bytes()
    assert run(["data", "add", str(archive), "--name", "parts"]) == 0
    out = capsys.readouterr().out
    assert "added parts: 4 images, 0 masks (layout folder)" in out and "data.dvc names the new version" in out
    assert "md5" in (versioned.root / "data.dvc").read_text() and archive.read_bytes() == before
    assert run(["data", "add", str(parts), "--name", "parts"]) == 0
    out = capsys.readouterr().out
    assert "already holds exactly these 4 images" in out and "data.dvc" not in out


def test_a_bucket_stays_an_address(at: Workspace, stub: Callable[..., list]) -> None:
    added = stub("flawline.data.ingest", "add_dataset", returns={"message": "added"})
    stub("flawline.data.versioning", "track_data", returns=False)
    assert run(["data", "add", "s3://bucket/line//3", "--name", "x"]) == 0
    assert added == [(at, "s3://bucket/line//3", "x", "auto", False)]


def test_an_unsafe_archive_is_one_line(at: Workspace, tmp_path: Path, one_error: Callable[[], str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("../evil", "x")
    assert run(["data", "add", str(tmp_path / "a.zip"), "--name", "x"]) == 2
    assert "a.zip: the name '../evil' holds '..'" in one_error()
    assert not (at.data / "x").exists()
