"""Shards: what is written is read, and a flipped bit is found, wherever it is."""

from pathlib import Path

import numpy as np
import pytest

from flawline.features.shards import BrokenShard, Row, Shard, name_of, write_shard

IMAGES = ["a" * 64, "b" * 64, "c" * 64]


def values(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 8)).astype("float32"), rng.normal(size=(3, 2, 4, 8)).astype("float16")


def read(path: Path, image: str) -> Row:
    shard = Shard(path)
    return shard.read(image, shard.open())


def test_rows_are_read_as_written(tmp_path: Path) -> None:
    cls, patches = values()
    path = write_shard(tmp_path, IMAGES, cls, patches)
    assert path.name == name_of(IMAGES) and [p.name for p in tmp_path.iterdir()] == [path.name]
    assert list(Shard(path).rows) == IMAGES
    for number, image in enumerate(IMAGES):
        row = read(path, image)
        assert row.cls.dtype == np.float32 and row.patches.dtype == np.float16
        assert row.cls.tobytes() == cls[number].tobytes()
        assert row.patches.tobytes() == patches[number].tobytes()


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = write_shard(tmp_path, IMAGES, *values())
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        found = 0
        for image in IMAGES:
            try:
                row = read(path, image)
            except (BrokenShard, KeyError):  # KeyError: the header names another image now
                found += 1
            else:
                number = IMAGES.index(image)
                assert row.cls.tobytes() == values()[0][number].tobytes()
                assert row.patches.tobytes() == values()[1][number].tobytes()
        assert found or whole[place : place + 1] in (b" ", b"\n")  # white space of the header means nothing


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_shard_cut_short_is_told(tmp_path: Path, kept: int) -> None:
    path = write_shard(tmp_path, IMAGES, *values())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrokenShard, match="header cannot be read"):
        Shard(path)


def test_a_row_counts_for_its_image_alone() -> None:
    cls, patches = values()
    row = Row(cls[0], patches[0])
    assert row.digest(IMAGES[0]) != row.digest(IMAGES[1])
    assert row.digest(IMAGES[0]) != Row(cls[1], patches[0]).digest(IMAGES[0])
