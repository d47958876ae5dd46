"""Archives as sources: unpacked into a temporary place, taken in, and gone."""

import os
from pathlib import Path

import pytest

from flawline.data.archives import Caps
from flawline.data.ingest import add_dataset
from flawline.data.sources import clear_unpacked, opened
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

from .test_archives import tarred, zipped
from .trees import category, picture


def packed(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def unpacked(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / ".flawline" / "unpacked").iterdir())


@pytest.mark.parametrize("name", ["castings.zip", "castings.tar.xz"])
def test_an_archive_gives_what_its_folder_gives(workspace: Workspace, tmp_path: Path, name: str) -> None:
    category(tmp_path / "set" / "gear", train=2, test=1)
    (tmp_path / "set" / "LICENSE").write_text("CC0")
    files = packed(tmp_path / "set")
    archive = (zipped if name.endswith("zip") else tarred)(tmp_path / name, files)
    by_folder = add_dataset(workspace, tmp_path / "set", "a")
    by_archive = add_dataset(workspace, archive, "b")
    assert by_archive["source"] == name and by_archive["licence"] == "LICENSE"
    assert by_archive["sha256"] == by_folder["sha256"]
    assert unpacked(workspace) == []
    assert (workspace.root / ".flawline" / ".gitignore").read_text() == "*\n"


def test_folders_that_only_wrap_are_looked_through(workspace: Workspace, tmp_path: Path) -> None:
    category(tmp_path / "set" / "gear", train=2, test=1)
    files = {f"download/v2/{name}": content for name, content in packed(tmp_path / "set").items()}
    files |= {"__MACOSX/download/._v2": b"x", "download/v2/LICENSE.txt": b"CC0"}
    told = add_dataset(workspace, zipped(tmp_path / "a.zip", files), "castings")
    assert told["layout"] == "mvtec" and list(told["counts"]) == ["gear"] and told["licence"] == "LICENSE.txt"


def test_a_plain_folder_in_an_archive_is_called_like_it(workspace: Workspace, tmp_path: Path) -> None:
    files = {f"good/{i}.png": picture(tmp_path / f"{i}.png").read_bytes() for i in range(3)}
    told = add_dataset(workspace, tarred(tmp_path / "Zahnräder.tar.gz", files), "gears")
    assert list(told["counts"]) == ["Zahnräder"]


def test_a_refused_archive_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    bad = tarred(tmp_path / "a.tar", {"good/0.png": b"x", "../../evil": b"x"})
    with pytest.raises(FlawlineError, match="the name "):
        add_dataset(workspace, bad, "x")
    assert unpacked(workspace) == [] and not (workspace.data / "x").exists()


def test_caps_reach_the_archive(workspace: Workspace, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"good/0.png": b"x", "good/1.png": b"x"})
    with pytest.raises(FlawlineError, match="more than 1 entries"), opened(workspace, archive, Caps(files=1)):
        pytest.fail("was opened")


def test_what_a_killed_run_left_goes(workspace: Workspace, tmp_path: Path) -> None:
    left = workspace.root / ".flawline" / "unpacked"
    picture(left / ".a.zip.999999999.partial" / "a" / "0.png")
    picture(left / f".b.zip.{os.getppid()}.partial" / "b" / "0.png")
    clear_unpacked(workspace)
    assert [path.name for path in left.iterdir()] == [f".b.zip.{os.getppid()}.partial"]


def test_files_that_are_no_archive(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=r"0\.png is neither a folder nor an archive.*\.zip"):
        add_dataset(workspace, picture(tmp_path / "0.png"), "x")
    (workspace.data).mkdir()
    with pytest.raises(FlawlineError, match="lies inside"):
        add_dataset(workspace, zipped(workspace.data / "a.zip", {"a": b"x"}), "x")
