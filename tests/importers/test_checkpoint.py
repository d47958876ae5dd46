"""Checkpoint files: numbers come out as they went in; whatever is broken or odd is told in one line."""

import io
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.structure import Storage, TensorPlace

VALUE = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2], dtype=torch.int32)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "epoch 15.pth"
    torch.save(VALUE, path)
    return path


def rebuilt(path: Path, change: Callable[[str, bytes], bytes | None], packed: bool = False) -> Path:
    """The same archive with every entry changed, or left out where the change gives None."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            made = change(name, content)
            if made is not None:
                archive.writestr(name, made)
    return path


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(3, 4), torch.randn(3, 4).T, torch.randn(4, 6)[1:3, ::2], torch.randn(3).half(),
        torch.randn(2, 1).bfloat16(), torch.arange(5), torch.tensor(2.5), torch.empty(0, 3),
        torch.ones(1).expand(3), torch.nn.Parameter(torch.randn(2)), torch.tensor([True, False]),
    ],
)  # fmt: skip
def test_tensors_come_out_as_they_went_in(value: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"value": value, "other": torch.zeros(9)}, path)
    checkpoint = Checkpoint.open(path)
    found = checkpoint.tensor(checkpoint.table["value"])
    assert found.dtype == value.dtype and torch.equal(found, value.detach())
    assert torch.equal(found, torch.load(path, weights_only=True)["value"].detach())


def test_a_checkpoint_is_named_by_its_hash(saved: Path) -> None:
    assert Checkpoint.open(saved).sha256 == sha256_file(saved)


def test_a_renamed_file_is_read(saved: Path) -> None:
    """torch names the folder inside after the file it wrote; people rename files."""
    moved = saved.rename(saved.with_name("other.pt"))
    checkpoint = Checkpoint.open(moved)
    assert checkpoint.root == "epoch 15"
    assert torch.equal(checkpoint.tensor(checkpoint.table["a"]), VALUE["a"])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_one_clear_error(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FlawlineError, match=r"epoch 15\.pth is cut short or damaged"):
        Checkpoint.open(saved)


def test_damaged_numbers_are_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    place = content.find(torch.tensor([5.0, 6.0]).numpy().tobytes())
    content[place] ^= 1
    saved.write_bytes(content)
    checkpoint = Checkpoint.open(saved)
    with pytest.raises(FlawlineError, match="cut short or damaged"):
        checkpoint.tensor(checkpoint.table["a"])


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(VALUE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("text.pth", "empty.pth", "old.pth"):
        with pytest.raises(
            FlawlineError, match=rf"{name} is no zip archive.*bare pickles, which are never opened"
        ):
            Checkpoint.open(tmp_path / name)
    for name in ("nowhere.pth", "."):
        with pytest.raises(FlawlineError, match="is no file"):
            Checkpoint.open(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(FlawlineError, match="no dict of tensors"):
        Checkpoint.open(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "folder.zip", "w") as archive:
        archive.writestr("folder/text.txt", "hello")
    with pytest.raises(FlawlineError, match=r"without one data\.pkl"):
        Checkpoint.open(tmp_path / "folder.zip")


def test_archives_that_torch_never_writes_are_refused(saved: Path, tmp_path: Path) -> None:
    packed = rebuilt(
        Path(shutil.copy(saved, tmp_path / "packed.pth")), lambda _, content: content, packed=True
    )
    with pytest.raises(FlawlineError, match="packed or locked"):
        Checkpoint.open(packed)
    twice = Path(shutil.copy(saved, tmp_path / "twice.pth"))
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("epoch 15/data.pkl", b"\x80\x02}.")
    with pytest.raises(FlawlineError, match="one twice"):
        Checkpoint.open(twice)
    big = rebuilt(saved, lambda name, content: b"big" if name.endswith("byteorder") else content)
    with pytest.raises(FlawlineError, match="big-endian"):
        Checkpoint.open(big)


def test_a_structure_that_is_too_long_is_not_begun(saved: Path) -> None:
    long = rebuilt(saved, lambda name, content: b"]" * 2**20 + b"." if name.endswith("data.pkl") else content)
    with pytest.raises(FlawlineError, match="too long"):
        Checkpoint.open(long)


def test_whatever_a_byte_is_changed_to_the_answer_is_the_tensor_or_a_clear_error(saved: Path) -> None:
    content, draw = saved.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[draw.randrange(len(changed))] = draw.randrange(256)
        changed[-draw.randrange(1, 400)] = draw.randrange(256)  # the directory of the archive
        saved.write_bytes(changed)
        try:
            checkpoint = Checkpoint.open(saved)
            assert torch.equal(checkpoint.tensor(checkpoint.table["a"]), VALUE["a"])
        except (FlawlineError, KeyError) as error:
            refused += isinstance(error, FlawlineError)
    assert refused > 100


@pytest.mark.parametrize("kept", [None, 40, 44, 52])
def test_numbers_that_are_missing_or_of_another_count(saved: Path, kept: int | None) -> None:
    def change(name: str, content: bytes) -> bytes | None:
        if not name.endswith("/data/0"):
            return content
        return None if kept is None else (content + bytes(8))[:kept]

    checkpoint = Checkpoint.open(rebuilt(saved, change))
    with pytest.raises(FlawlineError, match=r"epoch 15\.pth.*data/0"):
        checkpoint.tensor(checkpoint.table["a"])
    assert torch.equal(checkpoint.tensor(checkpoint.table["b"]), VALUE["b"])


def test_a_tensor_cannot_reach_beyond_its_numbers_or_be_huge(saved: Path) -> None:
    checkpoint, storage = Checkpoint.open(saved), Storage("0", "float32", 12)
    for place in (TensorPlace(storage, 1, (12,), (1,)), TensorPlace(storage, 0, (2, 2), (9, 4))):
        with pytest.raises(FlawlineError, match="cut short"):
            checkpoint.tensor(place)
    with pytest.raises(FlawlineError, match="too large"):
        checkpoint.tensor(TensorPlace(storage, 0, (2**20, 2**20), (0, 0)))


def test_no_tensor_is_read_before_it_is_asked_for(saved: Path) -> None:
    lean = rebuilt(saved, lambda name, content: None if "/data/" in name else content)
    assert set(Checkpoint.open(lean).table) == {"a", "b"}


def test_what_torch_saves_to_a_stream_is_read_too(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(VALUE, stream)
    (tmp_path / "x.pth").write_bytes(stream.getvalue())
    assert set(Checkpoint.open(tmp_path / "x.pth").table) == {"a", "b"}
