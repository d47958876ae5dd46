"""The store and the stage together: CLIP sees an image once, and nobody can tell from the outputs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flawline.clip.backbone import load_backbone
from flawline.errors import FlawlineError
from flawline.features import encode
from flawline.features.encode import Item, encode_items
from flawline.features.store import FeatureArrays
from flawline.files import read_parquet, sha256_file, sha256_folder, write_parquet
from flawline.settings import ImagePath, Settings
from flawline.stages import features as stage
from flawline.workspace import Workspace

from .conftest import picture

Change = Callable[..., Settings]
CHILD = Path(__file__).with_name("child.py")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """How many images each pass of the tower had, and for which image paths."""
    passes: list[tuple[int, tuple[str, ...]]] = []
    real = encode.encode_image

    def counted(backbone: Any, images: Any, paths: Any) -> Any:
        passes.append((len(images), tuple(paths)))
        return real(backbone, images, paths)

    monkeypatch.setattr(encode, "encode_image", counted)
    return passes


def images(seen: list[tuple[int, tuple[str, ...]]]) -> int:
    count = sum(number for number, _ in seen)
    seen.clear()
    return count


def store(workspace: Workspace) -> Path:
    return workspace.root / ".flawline" / "features"


def parts(workspace: Workspace) -> dict[str, str]:
    """Hash of every feature folder."""
    return {
        part: sha256_folder(folder)
        for part in ("train", "test", "support")
        if (folder := workspace.features(part, "parts")).is_dir()
    }


def grow(workspace: Workspace, count: int) -> None:
    """More good training images for category bolt, of 8 x 8 pixels."""
    table = read_parquet(workspace.manifest)
    row = table[(table["split"] == "train") & (table["category"] == "bolt")].iloc[0]
    rows = []
    for number in range(count):
        name = f"parts/bolt/train/good/more-{len(table) + number}.png"
        picture(10_000 + len(table) + number, 8, 8).save(workspace.data / name)
        rows.append({**row, "image": name, "sha256": sha256_file(workspace.data / name)})
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    table = table.sort_values(["dataset", "category", "split", "defect", "image"])
    write_parquet(workspace.manifest, table.astype({"label": "int8", "width": "int32", "height": "int32"}))


def test_every_rerun_finds_everything(synthetic: Workspace, change_settings: Change, seen: list) -> None:
    settings = change_settings()
    stage.run(synthetic, settings, "train", "parts")
    stage.run(synthetic, settings, "test", "parts")
    assert images(seen) == 15  # 6 good, 3 synthetic, 6 tested; the support images are training images
    before = parts(synthetic)
    shutil.rmtree(synthetic.out / "features")
    stage.run(synthetic, settings, "train", "parts")
    stage.run(synthetic, settings, "test", "parts")
    assert images(seen) == 0 and parts(synthetic) == before
    shutil.rmtree(synthetic.out / "features")
    shutil.rmtree(store(synthetic))
    stage.run(synthetic, settings, "test", "parts")
    stage.run(synthetic, settings, "train", "parts")
    assert images(seen) == 15 and parts(synthetic) == before


def test_ten_images_more_are_ten_images_encoded(
    synthetic: Workspace, change_settings: Change, seen: list
) -> None:
    settings = change_settings(features={"paths": {"vv": ImagePath(attention="vv").model_dump()}})
    grow(synthetic, 1000)
    stage.run(synthetic, settings, "train", "parts")
    assert images(seen) == 1009
    grow(synthetic, 10)
    stage.run(synthetic, settings, "train", "parts")
    assert images(seen) == 10
    stage.run(synthetic, settings, "train", "parts")
    assert images(seen) == 0


def test_an_image_is_the_same_bytes_alone_and_in_a_batch(small: Workspace, change_settings: Change) -> None:
    found = []
    for batch in (1, 2, 5, 32):
        shutil.rmtree(store(small), ignore_errors=True)
        stage.run(small, change_settings(features={"batch": batch}), "test", "parts")
        found.append(parts(small))
    assert all(other == found[0] for other in found)


def test_another_path_is_read_alone(small: Workspace, change_settings: Change, seen: list) -> None:
    settings = change_settings()
    stage.run(small, settings, "test", "parts")
    seen.clear()
    paths = {name: path.model_dump() for name, path in settings.features.paths.items()}
    more = change_settings(features={"paths": paths | {"qk": ImagePath(attention="qk").model_dump()}})
    stage.run(small, more, "test", "parts")
    assert {names for _, names in seen} == {("qk",)}
    warm = parts(small)
    shutil.rmtree(store(small))
    stage.run(small, more, "test", "parts")
    assert parts(small) == warm


def test_the_same_picture_under_two_names_is_encoded_once(
    small: Workspace, change_settings: Change, seen: list
) -> None:
    folder = small.data / "parts/bolt/test/scratch"
    shutil.copyfile(folder / "000.png", folder / "001.png")
    stage.run(small, change_settings(), "test", "parts")
    assert images(seen) == 5 + 6  # and the support
    cls = np.load(small.features("test", "parts") / "cls-laa.npy")
    assert np.array_equal(cls[1], cls[2]) and not np.array_equal(cls[0], cls[1])


def test_a_file_changed_behind_the_manifest_is_read_as_it_is(
    small: Workspace, change_settings: Change, seen: list
) -> None:
    stage.run(small, change_settings(), "test", "parts")
    before = parts(small)
    seen.clear()
    path = small.data / "parts/bolt/test/good/000.png"
    picture(99).save(path)
    stage.run(small, change_settings(), "test", "parts")
    assert images(seen) == 1 and parts(small) != before
    path.unlink()
    with pytest.raises(FlawlineError, match=r"good/000\.png"):
        stage.run(small, change_settings(), "test", "parts")


def test_a_lower_cap_on_pixels_counts_for_what_is_stored(small: Workspace, change_settings: Change) -> None:
    stage.run(small, change_settings(), "test", "parts")
    with pytest.raises(FlawlineError, match=r"000\.png: too large: 60×44"):
        stage.run(small, change_settings(data={"max_pixels": 2000}), "test", "parts")


def test_a_damaged_shard_is_encoded_again(
    small: Workspace, change_settings: Change, seen: list, capsys: Any
) -> None:
    settings = change_settings(features={"batch": 2})
    stage.run(small, settings, "test", "parts")
    before = parts(small)
    seen.clear()
    broken = sorted(store(small).glob("*/*.safetensors"))[0]
    content = broken.read_bytes()
    broken.write_bytes(content[:-3] + b"???")
    again = []
    for _ in range(
        3
    ):  # its whole rows may have been used before the broken one was met: they are encoded next time
        stage.run(small, settings, "test", "parts")
        again.append(images(seen))
        assert parts(small) == before
    told = capsys.readouterr().err
    assert told.count("is damaged") == 1 and str(broken) in told
    assert sum(again) == 2 and again[0] >= 1 and again[2] == 0


def start(workspace: Workspace, settings: Settings, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    given = log.with_suffix(".json")
    given.write_text(json.dumps(settings.model_dump()))
    command = [sys.executable, str(CHILD), str(given), str(workspace.root), str(log), str(seconds)]
    return subprocess.Popen(command, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_for(what: Callable[[], Any], child: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert child.poll() is None, "the child ended before it was to be killed"
        assert time.monotonic() < end, "the child stored nothing in time"
        time.sleep(0.02)


def test_a_killed_run_goes_on_where_it_was(
    synthetic: Workspace, change_settings: Change, seen: list, tmp_path: Path
) -> None:
    """kill -9 in the middle of the encoding: whole shards stay, the claim is free, the outputs are the same."""
    settings = change_settings(features={"batch": 1})
    child = start(synthetic, settings, tmp_path / "log", seconds=0.3)
    paths = len(settings.features.paths)
    wait_for(lambda: len(list(store(synthetic).glob("*/*.safetensors"))) > 2 * paths, child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    assert not synthetic.features("train", "parts").exists()
    shelves = [shelf.parent for shelf in store(synthetic).glob("*/reading.json")]
    kept = min(len(list(shelf.glob("*.safetensors"))) for shelf in shelves)
    stage.run(synthetic, settings, "train", "parts")
    assert 2 <= kept < 9 and images(seen) == 9 - kept
    resumed = parts(synthetic)
    shutil.rmtree(store(synthetic))
    stage.run(synthetic, settings, "train", "parts")
    assert parts(synthetic) == resumed


def test_two_processes_share_the_work(
    synthetic: Workspace, change_settings: Change, seen: list, tmp_path: Path
) -> None:
    """Each image is encoded by one of them; both write the same outputs."""
    settings = change_settings(features={"batch": 1})
    other = Workspace(tmp_path / "other")
    shutil.copytree(synthetic.root, other.root)
    store(other).parent.mkdir()
    store(synthetic).mkdir(parents=True)
    store(other).symlink_to(store(synthetic))
    child = start(other, settings, tmp_path / "log", seconds=0.2)
    wait_for(lambda: list(store(synthetic).glob("*/*.safetensors")), child)
    stage.run(synthetic, settings, "train", "parts")
    assert child.wait(120) == 0
    by_child = sum(int(line) for line in (tmp_path / "log").read_text().split())
    by_us = images(seen)
    assert by_child + by_us == 9 and by_child and by_us
    assert parts(synthetic) == parts(other)


def test_without_a_store_nothing_is_kept(small: Workspace, change_settings: Change, seen: list) -> None:
    settings = change_settings(features={"paths": {"vv": ImagePath(attention="vv").model_dump()}})
    backbone = load_backbone(settings.backbone, small.root)
    items = [Item(small.data / image) for image in read_parquet(small.manifest)["image"]]
    cells = backbone.grid**2
    for _ in range(2):
        cls = {"vv": np.zeros((len(items), backbone.dim), np.float32)}
        patches = {"vv": np.zeros((len(items), 1, cells, backbone.dim), np.float16)}
        arrays = FeatureArrays(cls, patches, None)
        encode_items(items, backbone, settings.features, arrays, "test", 1_000_000)
        assert images(seen) == len(items) and cls["vv"].any(axis=1).all()
    assert not store(small).exists()


def test_a_store_that_cannot_be_used_costs_a_warning(
    small: Workspace, change_settings: Change, capsys: Any
) -> None:
    stage.run(small, change_settings(), "test", "parts")
    before = parts(small)
    shutil.rmtree(store(small))
    store(small).write_text("a file where the folder should be")
    stage.run(small, change_settings(), "test", "parts")
    assert parts(small) == before
    told = capsys.readouterr().err
    assert told.count("the feature store keeps nothing more") == 1
