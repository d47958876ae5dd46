import numpy as np
import pytest

from flawline.evaluate.scoring import HeldScores, read_rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_of_a_mapped_file_are_read_not_mapped(tmp_path, dtype):
    values = np.random.default_rng(0).random((9, 2, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    rows = np.asarray([8, 0, 0, 5])
    found = read_rows(mapped, rows)
    assert found.dtype == np.float32 and not isinstance(found, np.memmap)
    assert np.array_equal(found, values[rows].astype(np.float32))
    assert np.array_equal(read_rows(values, rows), found)
    assert read_rows(mapped, rows[:0]).shape == (0, 2, 3)


def test_rows_of_a_view_and_of_a_fortran_file_are_right_too(tmp_path):
    values = np.arange(24.0).reshape(4, 6)
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert np.array_equal(read_rows(mapped[:, ::2], np.asarray([3, 1])), values[[3, 1], ::2])
    assert np.array_equal(read_rows(mapped[2:], np.asarray([1])), values[[3]])
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    assert np.array_equal(read_rows(np.load(tmp_path / "f.npy", mmap_mode="r"), np.asarray([2])), values[[2]])


def test_held_scores_are_given_by_row():
    held = HeldScores(np.arange(3), np.zeros((3, 4, 4)), np.eye(3))
    found = held(np.asarray([2, 1]))
    assert found.image.tolist() == [2, 1] and found.maps.dtype == np.float32 and held.side == 4
    assert np.array_equal(found.types, np.eye(3)[[2, 1]])
    assert HeldScores(np.arange(3), np.zeros((3, 4, 4)))(np.asarray([0])).types is None
