"""The store: what makes two readings one, what is evicted, and what happens to a damaged shard."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flawline.clip.backbone import Backbone, load_backbone
from flawline.features.cache import FeatureCache, Shelf, reading_of
from flawline.settings import BackboneSettings, ImagePath

VV = ImagePath(attention="vv")
ROW_BYTES = 8 * 4 + 16 * 2


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSettings(name="flawline-tiny", weights="none", image_size=32), Path())


def image(number: int) -> str:
    return f"{number:064x}"


def rows(*numbers: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    cls = np.array([[n] * 8 for n in numbers], np.float32)
    return [image(n) for n in numbers], cls, np.array([[[[n] * 8] * 2] for n in numbers], np.float16)


def cache_of(folder: Path, limit: int = 1_000_000) -> FeatureCache:
    return FeatureCache(folder / "store", limit)


def shelf_of(cache: FeatureCache, backbone: Backbone, **given: Any) -> Shelf:
    return cache.shelf(backbone, "vv", given.get("path", VV), given.get("dtype", "float16"))


def has(shelf: Shelf, number: int) -> bool:
    found = shelf.read(image(number))
    assert found is None or ((found.cls == number).all() and (found.patches == number).all())
    return found is not None


def shards(cache: FeatureCache) -> list[Path]:
    return sorted(cache.root.glob("*/*.safetensors"))


def test_what_is_kept_is_found_by_everyone(tmp_path: Path, backbone: Backbone) -> None:
    cache = cache_of(tmp_path)
    shelf, other = shelf_of(cache, backbone), shelf_of(cache_of(tmp_path), backbone)
    assert not has(shelf, 1)
    shelf.add(*rows(1, 2))
    assert not has(other, 1)
    other.refresh()
    assert has(other, 1) and has(other, 2) and not has(other, 3)
    assert has(shelf_of(cache_of(tmp_path), backbone), 2)


def test_a_reading_is_all_that_decides_the_values(backbone: Backbone) -> None:
    reading = reading_of(backbone, "vv", VV, "float16")
    depth = backbone.vision_layers
    assert reading == reading_of(backbone, "another name", VV, "float16")
    assert reading == reading_of(backbone, "vv", ImagePath(attention="vv", levels=[depth]), "float16")
    seeds = load_backbone(
        BackboneSettings(name="flawline-tiny", weights="none", image_size=32, seed=1), Path()
    )
    sizes = load_backbone(BackboneSettings(name="flawline-tiny", weights="none", image_size=40), Path())
    others = [
        reading_of(backbone, "vv", VV, "float32"),
        reading_of(backbone, "vv", ImagePath(attention="vv", radius=1), "float16"),
        reading_of(backbone, "vv", ImagePath(attention="vv", image_norm=False), "float16"),
        reading_of(seeds, "vv", VV, "float16"),
        reading_of(sizes, "vv", VV, "float16"),
    ]
    assert all(other != reading for other in others)


def test_readings_do_not_share_rows(tmp_path: Path, backbone: Backbone) -> None:
    cache = cache_of(tmp_path)
    shelf_of(cache, backbone).add(*rows(1))
    assert not has(shelf_of(cache, backbone, dtype="float32"), 1)
    assert not has(shelf_of(cache, backbone, path=ImagePath(attention="vv", radius=1)), 1)


def test_the_disk_is_bounded_and_the_longest_unused_goes(tmp_path: Path, backbone: Backbone) -> None:
    first = cache_of(tmp_path)
    shelf_of(first, backbone).add(*rows(1))
    size = shards(first)[0].stat().st_size
    cache = cache_of(tmp_path, 3 * size)
    shelf = shelf_of(cache, backbone)
    for number in (2, 3):
        shelf.add(*rows(number))
    for age, path in enumerate(sorted(shards(cache), key=lambda p: p.stat().st_mtime_ns)):
        os.utime(path, ns=(10**9 * (age + 1),) * 2)
    again = shelf_of(cache, backbone)
    assert has(again, 1)  # used: now the last to go
    again.add(*rows(4))
    again.refresh()
    assert [n for n in (1, 2, 3, 4) if has(again, n)] == [1, 3, 4]
    assert sum(path.stat().st_size for path in shards(cache)) <= cache.limit
    cache.trim(size)
    assert len(shards(cache)) == 1


def test_an_evicted_shard_is_a_miss_and_no_fault(tmp_path: Path, backbone: Backbone, capsys: Any) -> None:
    cache = cache_of(tmp_path)
    shelf_of(cache, backbone).add(*rows(1))
    shelf = shelf_of(cache, backbone)
    shards(cache)[0].unlink()
    assert not has(shelf, 1)
    assert capsys.readouterr().err == ""


def test_what_is_larger_than_the_store_is_not_kept(tmp_path: Path, backbone: Backbone) -> None:
    cache = cache_of(tmp_path, ROW_BYTES)
    shelf_of(cache, backbone).add(*rows(1, 2))
    assert shards(cache) == []


@pytest.mark.parametrize("fault", ["flip", "cut", "late cut"])
def test_a_damaged_shard_is_named_and_dropped(
    tmp_path: Path, backbone: Backbone, capsys: Any, fault: str
) -> None:
    cache = cache_of(tmp_path)
    shelf_of(cache, backbone).add(*rows(1, 2))
    shelf_of(cache, backbone).add(*rows(3))
    (path,) = [
        path for path in shards(cache) if path.stat().st_size == max(p.stat().st_size for p in shards(cache))
    ]
    whole = path.read_bytes()
    shelf = shelf_of(cache, backbone) if fault == "late cut" else None
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if fault == "flip" else whole[: len(whole) // 2])
    shelf = shelf or shelf_of(cache, backbone)
    assert not has(shelf, 2) and not has(shelf, 1) and has(shelf, 3)
    told = capsys.readouterr().err
    assert told.count("warning:") == 1 and str(path) in told and "damaged" in told
    assert not path.exists()
    shelf.add(*rows(1, 2))
    shelf.refresh()
    assert has(shelf, 1) and has(shelf, 2)


def test_what_a_killed_writer_left_is_removed(tmp_path: Path, backbone: Backbone) -> None:
    cache = cache_of(tmp_path)
    shelf = shelf_of(cache, backbone)
    shelf.add(*rows(1))
    left, fresh = shelf.folder / ".x.1.partial", shelf.folder / ".y.2.partial"
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    cache.trim(cache.limit)
    assert not left.exists() and fresh.exists() and len(shards(cache)) == 1


def test_one_at_a_time_encodes_the_same_images(tmp_path: Path) -> None:
    one, two = cache_of(tmp_path), cache_of(tmp_path)
    images = [image(1), image(2)]
    with one.claim(images, wait=False) as mine:
        assert mine
        with two.claim(images, wait=False) as yours:
            assert not yours
        with two.claim([image(3)], wait=False) as other:
            assert other
    with two.claim(images, wait=True) as mine:
        assert mine
    assert not list((one.root / "locks").iterdir())


def test_a_store_that_cannot_be_written_costs_a_warning_and_nothing_else(
    tmp_path: Path, backbone: Backbone, capsys: Any
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    cache = cache_of(tmp_path)
    shelf = shelf_of(cache, backbone)
    with cache.claim([image(1)], wait=False) as mine:
        assert mine
    shelf.add(*rows(1))
    shelf.add(*rows(2))
    assert not has(shelf, 1)
    assert capsys.readouterr().err.count("warning: the feature store keeps nothing more") == 1
