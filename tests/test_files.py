"""Files are whole or absent, whatever happens while they are written."""

import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flawline import files
from flawline.errors import FlawlineError


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(f"*{files.PARTIAL_SUFFIX}"))


def test_atomic_file_writes_and_makes_folders(tmp_path: Path) -> None:
    target = tmp_path / "a b" / "ü" / "x.txt"
    files.write_text(target, "häß\n")
    assert target.read_bytes() == "häß\n".encode()
    assert leftovers(tmp_path) == []


def test_an_error_inside_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_file(target) as partial:
        partial.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(FlawlineError) as caught, files.atomic_file(target) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(target) in str(caught.value) and "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    with pytest.raises(FlawlineError, match="cannot write"), files.atomic_file(target) as partial:
        partial.symlink_to("/dev/full")
        with partial.open("wb") as stream:
            stream.write(b"x" * 100_000)
    assert not target.exists()
    assert leftovers(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(tmp_path / "f") as partial:
        (partial / "x").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_file_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle of a write, for real: the target keeps its old bytes, the next write succeeds."""
    target = tmp_path / "x.txt"
    target.write_text("old")
    code = (
        "import sys, time; from pathlib import Path; from flawline.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert target.read_text() == "old"
    files.write_text(target, "new")
    assert target.read_text() == "new"


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "f"
    for name in ("first", "second"):
        with files.atomic_folder(target) as partial:
            assert list(partial.iterdir()) == []
            (partial / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert leftovers(tmp_path) == []


def test_atomic_folder_keeps_the_old_folder_on_error(tmp_path: Path) -> None:
    target = tmp_path / "f"
    with files.atomic_folder(target) as partial:
        (partial / "first").write_text("1")
    with pytest.raises(ValueError), files.atomic_folder(target) as partial:
        (partial / "second").write_text("2")
        raise ValueError
    assert [path.name for path in target.iterdir()] == ["first"]
    assert leftovers(tmp_path) == []


def test_json_round_trip_is_exact_and_stable(tmp_path: Path) -> None:
    value = {"z": 0.1 + 0.2, "a": [1, None, "ü"], "big": 2**60}
    files.write_json(tmp_path / "a.json", value)
    files.write_json(tmp_path / "b.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert list(files.read_json(tmp_path / "a.json")) == ["z", "a", "big"]


def test_json_refuses_what_json_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"x": math.nan})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"), [(None, "is missing"), (b"{", "not valid"), (b"\xff\xfe", "not valid")]
)
def test_bad_json_names_the_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FlawlineError) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_parquet_round_trip_and_stable_bytes(tmp_path: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"image": ["b", "a"], "mask": ["m", None], "score": [0.1, 1e-9]}, index=[7, 3])
    files.write_parquet(tmp_path / "a.parquet", table)
    time.sleep(0.01)
    files.write_parquet(tmp_path / "b.parquet", table)
    back = files.read_parquet(tmp_path / "a.parquet")
    assert list(back.columns) == ["image", "mask", "score"] and list(back.index) == [0, 1]
    assert list(back["score"]) == [0.1, 1e-9] and pd.isna(back["mask"][1])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(("content", "says"), [(None, "is missing"), (b"PAR1xxxx", "cannot be read")])
def test_bad_parquet_names_the_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FlawlineError) as caught:
        files.read_parquet(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_sha256_of_a_file_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(tmp_path / "x") == known


def test_sha256_of_a_folder_sees_names_and_contents_only(tmp_path: Path) -> None:
    for order, folder in ((("a", "b"), "one"), (("b", "a"), "two")):
        for name in order:
            files.write_text(tmp_path / folder / name, name)
    assert files.sha256_folder(tmp_path / "one") == files.sha256_folder(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "c")
    renamed = files.sha256_folder(tmp_path / "two")
    (tmp_path / "two" / "c").write_text("changed")
    assert len({files.sha256_folder(tmp_path / "one"), renamed, files.sha256_folder(tmp_path / "two")}) == 3


def test_inside_lets_in_and_keeps_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "ok.png").symlink_to(root / "sub")
    assert files.inside(root, "sub/x.png") == root / "sub" / "x.png"
    assert files.inside(root, "ok.png") == root / "ok.png"
    for bad in ("link.png", "../secret.png", "/etc/passwd", "sub/../../secret.png"):
        with pytest.raises(FlawlineError, match="leads outside"):
            files.inside(root, bad)
