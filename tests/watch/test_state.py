"""The watch's memory: once only, whole batches, and what it does with a file that it cannot read."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.watch.state import ACCEPTED, GOOD, NEW, OPEN, Crop, State, pack, unpack


def crop(sha256: str, value: float = 1.0, file: str = "") -> Crop:
    return Crop(sha256, f"{sha256}.png", 0.9, (1, 2, 3, 4), np.full(4, value, np.float32), file, None)


def test_an_image_is_counted_once_and_survives_closing(tmp_path: Path) -> None:
    with State(tmp_path) as state, state.writing():
        assert state.add_image("a", "one.png", GOOD, "p", 0.1, whole=np.ones(4))
        assert not state.add_image("a", "other name.png", NEW, "p", 0.9)
    with State(tmp_path) as state:
        assert state.has("a") and not state.has("b") and state.counts() == {"good": 1}


def test_a_batch_is_whole_or_absent(tmp_path: Path) -> None:
    with State(tmp_path) as state:
        with pytest.raises(KeyboardInterrupt), state.writing():
            state.add_image("a", "a.png", GOOD)
            state.stamp("s", "a.png", (1, 2, 3), "a")
            raise KeyboardInterrupt
        assert state.counts() == {} and state.stamps("s") == {}


def test_crops_keep_their_order_and_their_item(tmp_path: Path) -> None:
    with State(tmp_path) as state, state.writing():
        for name in ("c", "a", "b"):
            state.add_image(name, f"{name}.png", NEW, "p", 0.9)
            state.add_crop(crop(name, value=ord(name)), "clip")
        number = state.add_item("burn", "burn mark", 0.8)
        state.put(["a", "b"], number)
        assert [one.sha256 for one in state.crops("clip")] == ["c", "a", "b"]
        assert [one.sha256 for one in state.crops(item=number)] == ["a", "b"]
        assert state.crops("another backbone") == []
        assert state.crops()[1].box == (1, 2, 3, 4) and state.crops()[1].vector.tolist() == [97.0] * 4
        state.decide(number, ACCEPTED, "burn", "burn", "plates/gear")
        [item] = state.items()
    assert (item.status, item.place, item.opened_after, item.stability) == (ACCEPTED, "plates/gear", 3, 0.8)
    assert OPEN != ACCEPTED


def test_old_crops_and_their_files_go_but_never_those_of_an_item(tmp_path: Path) -> None:
    with State(tmp_path) as state:
        state.images_folder.mkdir()
        with state.writing():
            for name in "abcde":
                (state.images_folder / f"{name}.png").touch()
                state.add_image(name, f"{name}.png", NEW, "p", 0.9)
                state.add_crop(crop(name, file=f"{name}.png"), "clip")
            state.put(["a"], state.add_item("burn", "burn", 1.0))
            state.prune(2)
        assert [one.sha256 for one in state.crops()] == ["a", "d", "e"]
        assert sorted(path.stem for path in state.images_folder.iterdir()) == ["a", "d", "e"]
        assert state.counts() == {"new": 5}, "what was counted stays counted"


def test_only_the_newest_good_features_are_kept(tmp_path: Path) -> None:
    with State(tmp_path) as state, state.writing():
        for number in range(6):
            state.add_image(str(number), "x", GOOD, "p", number / 10, whole=np.full(3, number))
        scores, whole = state.newest_good("p", 4)
        assert scores.tolist() == [0.5, 0.4, 0.3, 0.2] and whole[:, 0].tolist() == [5, 4, 3, 2]
        assert len(state.newest_good("p", 10)[0]) == 4
        assert state.newest_good("other prompts", 4)[1].shape == (0, 0)


def test_vectors_come_back_as_they_were() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert np.array_equal(unpack([pack(one) for one in vectors]), vectors)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 40, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "watch.sqlite"
    if content:
        path.write_bytes(content)
    else:
        base = sqlite3.connect(path)
        base.execute("PRAGMA user_version = 99")
        base.close()
    with pytest.raises(FlawlineError, match=r"watch\.sqlite (cannot be used|is of version 99)"):
        State(tmp_path)
