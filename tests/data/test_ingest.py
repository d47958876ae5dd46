import subprocess
import sys
from pathlib import Path

import pytest

from flawline import files
from flawline.data import ingest
from flawline.data.ingest import add_dataset, clear_partials, list_datasets
from flawline.data.layouts import read_layout
from flawline.data.manifest import build_manifest
from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_folder
from flawline.workspace import Workspace

from .trees import category, mask, picture


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "line 3"
    for i in range(12):
        picture(root / "good" / f"{i}.jpg")
    for i in range(2):
        picture(root / "scratch" / f"{i}.jpg")
        mask(root / "masks" / "scratch" / f"{i}.png")
    return root


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_folder_becomes_mvtec(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("CC BY 4.0")  # beside the source
    before = sha256_folder(source)
    told = add_dataset(workspace, source, "line3")
    assert told["added"] and told["layout"] == "folder" and told["licence"] == "LICENSE.txt"
    assert told["message"] == "added line3: 14 images, 2 masks (layout folder)"
    added = workspace.data / "line3"
    assert read_layout(added)[0] == "mvtec"
    assert (added / "line 3/ground_truth/scratch/1_mask.png").is_file()
    assert (added / "LICENSE.txt").read_text() == "CC BY 4.0"
    assert sha256_folder(source) == before
    table = build_manifest(workspace.data, ["line3"])
    assert table["problem"].isna().all() and table["mask"].notna().sum() == 2


def test_card_says_where_from_without_a_path(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    add_dataset(workspace, source, "line3")
    card = read_json(workspace.data / "line3" / "dataset.json")
    assert list(card) == ["source", "layout", "licence", "counts", "sha256"]
    assert card["source"] == "line 3" and card["licence"] is None
    assert str(tmp_path) not in (workspace.data / "line3" / "dataset.json").read_text()
    good = sum(splits["good"] for splits in card["counts"]["line 3"].values())
    assert good == 12 and card["counts"]["line 3"]["test"]["scratch"] == 2


def test_mvtec_stays_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    category(tmp_path / "set" / "gear", train=2, test=1)
    add_dataset(workspace, tmp_path / "set", "castings")
    assert tree(workspace.data / "castings") == sorted([*tree(tmp_path / "set"), "dataset.json"])


def test_same_content_again_changes_nothing(workspace: Workspace, source: Path) -> None:
    add_dataset(workspace, source, "line3")
    card = workspace.data / "line3" / "dataset.json"
    stamp = card.stat().st_mtime_ns
    told = add_dataset(workspace, source, "line3")
    assert not told["added"] and "nothing to do" in told["message"]
    assert card.stat().st_mtime_ns == stamp


def test_other_content_needs_replace(workspace: Workspace, source: Path) -> None:
    add_dataset(workspace, source, "line3")
    before = sha256_folder(workspace.data)
    picture(source / "scratch" / "new.jpg")
    with pytest.raises(FlawlineError, match=r"line3 already holds other content.*--replace"):
        add_dataset(workspace, source, "line3")
    assert sha256_folder(workspace.data) == before
    assert add_dataset(workspace, source, "line3", replace=True)["added"]
    assert (workspace.data / "line3/line 3/test/scratch/new.jpg").is_file()


def test_a_damaged_copy_is_other_content(workspace: Workspace, source: Path) -> None:
    add_dataset(workspace, source, "line3")
    (workspace.data / "line3/line 3/test/scratch/0.jpg").unlink()
    with pytest.raises(FlawlineError, match="other content"):
        add_dataset(workspace, source, "line3")


def test_one_stem_with_two_suffixes_keeps_two_masks(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "set"
    picture(source / "good" / "1.png")
    picture(source / "rust" / "1.png")
    picture(source / "rust" / "1.jpg")
    add_dataset(workspace, source, "x")
    names = sorted(path.name for path in (workspace.data / "x" / "set" / "test" / "rust").iterdir())
    assert names == ["1-2.png", "1.jpg"]


def test_links_inside_are_copied_links_outside_refused(
    workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    (source / "scratch" / "linked.jpg").symlink_to(source / "good" / "0.jpg")
    add_dataset(workspace, source, "line3")
    copy = workspace.data / "line3/line 3/test/scratch/linked.jpg"
    assert copy.is_file() and not copy.is_symlink()
    (source / "scratch" / "out.jpg").symlink_to(picture(tmp_path / "elsewhere" / "0.jpg"))
    with pytest.raises(FlawlineError, match=r"out\.jpg is a link that leaves line 3"):
        add_dataset(workspace, source, "other")
    assert not (workspace.data / "other").exists()


def test_bad_names_and_places(workspace: Workspace, source: Path) -> None:
    for name in ("", "../up", "a b", ".hidden", "x" * 65):
        with pytest.raises(FlawlineError, match="cannot name a data set"):
            add_dataset(workspace, source, name)
    add_dataset(workspace, source, "line3")
    with pytest.raises(FlawlineError, match="lies inside"):
        add_dataset(workspace, workspace.data / "line3", "again")
    with pytest.raises(FlawlineError, match="is not a folder"):
        add_dataset(workspace, source / "missing", "again")
    with pytest.raises(FlawlineError, match="unknown layout 'zip'"):
        add_dataset(workspace, source, "again", layout="zip")


def test_full_disk_leaves_nothing(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dataset(workspace, source, "line3")
    before = sha256_folder(workspace.data)
    picture(source / "scratch" / "new.jpg")
    copied = []

    def full(from_path: Path, to_path: Path) -> None:
        copied.append(to_path)
        if len(copied) == 5:
            raise OSError(28, "No space left on device", str(to_path))
        Path(to_path).write_bytes(Path(from_path).read_bytes())

    monkeypatch.setattr(ingest.shutil, "copyfile", full)
    with pytest.raises(FlawlineError, match=r"No space left on device.*free some disk space"):
        add_dataset(workspace, source, "line3", replace=True)
    assert len(copied) == 5
    assert sha256_folder(workspace.data) == before
    assert [path.name for path in workspace.data.iterdir()] == ["line3"]


def test_a_kill_leaves_nothing_that_lasts(workspace: Workspace, source: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = workspace.data / f".line3.{int(ended.stdout)}{files.PARTIAL_SUFFIX}"
    mine = files._partial(workspace.data / "other")
    for folder in (left, mine):
        (folder / "x").mkdir(parents=True)
    clear_partials(workspace.data)
    assert not left.exists() and mine.exists()
    add_dataset(workspace, source, "line3")
    assert [entry["name"] for entry in list_datasets(workspace)] == ["line3"]


def test_list(workspace: Workspace, source: Path) -> None:
    assert list_datasets(workspace) == []
    add_dataset(workspace, source, "line3")
    category(workspace.data / "by_hand" / "gear", train=2, test=1)
    (workspace.data / "empty").mkdir()
    by_hand, empty, line3 = list_datasets(workspace)
    assert (line3["name"], line3["images"], line3["categories"]) == ("line3", 14, ["line 3"])
    assert line3["source"] == "line 3" and len(line3["sha256"]) == 64 and line3["problem"] is None
    assert by_hand["images"] == 4 and by_hand["source"] is None
    assert by_hand["counts"] == {"gear": {"test": {"good": 1, "scratch": 1}, "train": {"good": 2}}}
    assert empty["images"] == 0 and "not in layout mvtec" in empty["problem"]
