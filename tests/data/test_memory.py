"""What is remembered of images can never be wrong, and saves their reading."""

import json
import os
from pathlib import Path

import pytest

from flawline.data import memory
from flawline.data.manifest import build_manifest
from flawline.data.memory import ImageMemory
from flawline.files import sha256_file

from .trees import category, mask, picture


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose files count as settled: the tests do not wait two seconds."""
    monkeypatch.setattr(memory, "_SETTLED", -10_000_000_000)
    category(tmp_path / "data" / "castings" / "gear", train=3, test=2)
    return tmp_path / "data"


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really read from now on."""
    read: list[str] = []
    for name in ("examine", "examine_mask"):
        real = getattr(memory, name)
        monkeypatch.setattr(
            memory, name, lambda path, limit, real=real: (read.append(Path(path).name), real(path, limit))[1]
        )
    return read


def test_a_second_run_reads_nothing_and_finds_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = watched(monkeypatch)
    first = build_manifest(data, ["castings"])
    assert len(read) == 7 + 2
    read.clear()
    assert build_manifest(data, ["castings"]).equals(first) and read == []
    assert (data.parent / ".flawline" / ".gitignore").read_text() == "*\n"


def test_a_changed_file_is_read_again_even_with_its_old_time(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_manifest(data, ["castings"])
    path = data / "castings/gear/train/good/1.png"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # same size
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_mtime_ns == state.st_mtime_ns and path.stat().st_size == state.st_size
    read = watched(monkeypatch)
    second = build_manifest(data, ["castings"]).set_index("image")
    assert read == ["1.png"]
    assert second.loc["castings/gear/train/good/1.png", "sha256"] == sha256_file(path)
    assert (second["sha256"] != first.set_index("image")["sha256"]).sum() == 1


def test_a_changed_mask_is_read_again(data: Path) -> None:
    build_manifest(data, ["castings"])
    mask(data / "castings/gear/ground_truth/scratch/0_mask.png", marked=False)
    table = build_manifest(data, ["castings"])
    assert table["problem"].dropna().tolist() == [
        "mask castings/gear/ground_truth/scratch/0_mask.png is empty: no pixel is marked"
    ]


def test_what_changed_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    category(tmp_path / "data" / "castings" / "gear", train=1, test=1)
    read = watched(monkeypatch)
    for _ in range(2):
        build_manifest(tmp_path / "data", ["castings"])
    assert len(read) == 2 * 4


def test_another_limit_or_a_spoiled_memory_starts_anew(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_manifest(data, ["castings"])
    assert build_manifest(data, ["castings"], max_pixels=2000)["problem"].str.startswith("too large").all()
    stored = data.parent / ".flawline" / "images.json"
    for text in ("", "[]", '{"header": 3}', json.dumps({"header": json.loads(stored.read_text())["header"]})):
        stored.write_text(text)
        assert build_manifest(data, ["castings"]).equals(first)


def test_other_data_sets_stay_remembered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    category(data / "boards" / "pcb", train=1, test=1)
    build_manifest(data, ["boards"])
    build_manifest(data, ["castings"])
    read = watched(monkeypatch)
    build_manifest(data, ["boards"])
    assert read == []


def test_deleted_files_are_forgotten(data: Path) -> None:
    build_manifest(data, ["castings"])
    (data / "castings/gear/train/good/1.png").unlink()
    picture(data / "castings/gear/train/good/2.png", side=80)
    build_manifest(data, ["castings"])
    stored = json.loads((data.parent / ".flawline" / "images.json").read_text())
    assert len(stored["images"]) == 6 and len(stored["masks"]) == 2


def test_nowhere_to_remember_is_no_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data.parent / ".flawline").write_text("a file is in the way")
    assert len(build_manifest(data, ["castings"])) == 7


def test_images_and_masks(data: Path, tmp_path: Path) -> None:
    recall = ImageMemory(data, 10_000)
    digest, seen = recall.image(picture(data / "x.png"))
    assert digest == sha256_file(data / "x.png") and seen.size == (72, 72) and seen.spread
    assert recall.image(data / "x.png") == (digest, seen)
    assert (
        recall.mask(data / "gone.png").fits((72, 72))
        == "cannot be used: cannot be read: No such file or directory"
    )
    with pytest.raises(OSError):
        recall.image(data / "gone.png")
