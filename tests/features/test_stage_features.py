"""The stage: rows and values of both parts, independence of batch size, and faults."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flawline.clip.backbone import load_backbone
from flawline.clip.image_path import encode_image
from flawline.data.images import load_rgb
from flawline.errors import FlawlineError
from flawline.features.encode import load_small_mask
from flawline.features.store import FeatureSet
from flawline.files import read_parquet, sha256_file, sha256_folder, write_parquet
from flawline.settings import Settings
from flawline.stages import features as stage
from flawline.workspace import Workspace

Change = Callable[..., Settings]


def test_test_part_holds_the_test_split_in_the_manifests_order(
    small: Workspace, change_settings: Change
) -> None:
    settings = change_settings()
    stage.run(small, settings, "test", "parts")
    backbone = load_backbone(settings.backbone, small.root)
    features = FeatureSet.open(small.features("test", "parts"), backbone, settings.features.paths)
    manifest = read_parquet(small.manifest)
    want = manifest[manifest["split"] == "test"]
    for column in ("image", "category", "defect", "label", "sha256"):
        assert features.index[column].tolist() == want[column].tolist()
    assert features.index["mask"].isna().tolist() == [True, False, False] * 2
    assert not features.index["synthetic"].any()
    assert not (small.features("test", "parts") / "masks.npy").exists()
    for row, image in enumerate(want["image"]):
        pixels = backbone.preprocess(load_rgb(small.data / image))[None]
        read = encode_image(backbone, pixels, settings.features.paths)
        for name in settings.features.paths:
            assert np.allclose(features.patches(name)[row], read[name].patches[0], atol=1e-3)


def test_training_part_holds_good_and_synthetic_with_masks(
    synthetic: Workspace, change_settings: Change
) -> None:
    settings = change_settings()
    stage.run(synthetic, settings, "train", "parts")
    features = FeatureSet.open(synthetic.features("train", "parts"))
    index, side = features.index, features.card["side"]
    assert index["synthetic"].tolist() == [False] * 6 + [True] * 3
    assert index["label"].tolist() == [0] * 6 + [1] * 3
    assert index["defect"].tolist() == ["good"] * 6 + ["line"] * 3
    assert index["image"].tolist()[6:] == [f"images/{n:05d}.png" for n in range(3)]
    assert index["mask"].tolist()[6:] == [f"masks/{n:05d}.png" for n in range(3)]
    folder = synthetic.synth("parts")
    assert index["sha256"].tolist()[6:] == [sha256_file(folder / image) for image in index["image"][6:]]
    assert not features.masks[:6].any()
    for place in range(3):
        rows = np.flatnonzero(features.masks[6 + place].any(axis=1))
        assert rows.tolist() == [(30 + place) * side // 128]  # a line of one pixel survives the reduction
        assert features.masks[6 + place].max() == 1
    assert features.card["synthetic"] == 3


def test_real_defects_join_the_training_part_only_when_asked(
    synthetic: Workspace, change_settings: Change
) -> None:
    table = read_parquet(synthetic.manifest)
    for mask_name in table.loc[table["label"] == 1, "mask"]:
        path = synthetic.data / mask_name
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((44, 60), np.uint8)
        mask[10:20, 5:30] = 1  # some data sets write 1, not 255
        Image.fromarray(mask).save(path)
    stage.run(synthetic, change_settings(features={"real": True}), "train", "parts")
    features = FeatureSet.open(synthetic.features("train", "parts"))
    real = features.index[~features.index["synthetic"]]
    assert sorted(real["sha256"]) == sorted(table["sha256"])
    assert features.masks.any(axis=(1, 2)).tolist() == (features.index["label"] == 1).tolist()
    stage.run(synthetic, change_settings(), "train", "parts")
    plain = FeatureSet.open(synthetic.features("train", "parts")).index
    assert not ((plain["label"] == 1) & ~plain["synthetic"]).any()


def test_features_do_not_depend_on_batch_size(synthetic: Workspace, change_settings: Change) -> None:
    found = []
    for batch in (1, 4, 32):
        settings = change_settings(features={"batch": batch, "dtype": "float32"})
        shutil.rmtree(synthetic.root / ".flawline", ignore_errors=True)
        stage.run(synthetic, settings, "train", "parts")
        features = FeatureSet.open(synthetic.features("train", "parts"))
        found.append([np.array(features.cls("laa")), np.array(features.patches("laa"))])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert np.allclose(one, two, atol=1e-5)


def test_a_second_run_writes_the_same_bytes(synthetic: Workspace, change_settings: Change) -> None:
    folder = synthetic.features("train", "parts")
    stage.run(synthetic, change_settings(), "train", "parts")
    before = sha256_folder(folder)
    torch.manual_seed(99)
    shutil.rmtree(synthetic.root / ".flawline")
    stage.run(synthetic, change_settings(), "train", "parts")
    assert sha256_folder(folder) == before


def test_faults_are_told(small: Workspace, change_settings: Change) -> None:
    settings = change_settings()
    with pytest.raises(FlawlineError, match="no part 'valid'"):
        stage.run(small, settings, "valid", "parts")
    with pytest.raises(FlawlineError, match="nuts: the manifest lists no test images"):
        stage.run(small, settings, "test", "nuts")
    with pytest.raises(FlawlineError, match=r"index\.parquet is missing"):
        stage.run(small, settings, "train", "parts")
    late = change_settings(features={"paths": {"vv": {"attention": "vv", "first_block": 99}}})
    with pytest.raises(FlawlineError, match=r"features\.paths\.vv\.first_block"):
        stage.run(small, late, "test", "parts")
    table = read_parquet(small.manifest)
    table.loc[table["split"] == "test", "problem"] = "truncated"
    write_parquet(small.manifest, table)
    with pytest.raises(FlawlineError, match=r"parts/bolt/test/good/000\.png: truncated \(one of 6"):
        stage.run(small, settings, "test", "parts")
    assert not small.features("test", "parts").exists()


def test_an_image_that_broke_after_the_checks_is_named(small: Workspace, change_settings: Change) -> None:
    (small.data / "parts/bolt/test/scratch/001.png").write_bytes(b"")
    with pytest.raises(FlawlineError, match=r"scratch/001\.png: zero bytes"):
        stage.run(small, change_settings(), "test", "parts")
    assert not small.features("test", "parts").exists()


def test_a_link_out_of_the_data_folder_is_refused(
    small: Workspace, change_settings: Change, tmp_path: Path
) -> None:
    path = small.data / "parts/bolt/test/good/000.png"
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(FlawlineError, match="leads outside"):
        stage.run(small, change_settings(), "test", "parts")


def test_masks_are_reduced_by_area_and_never_vanish(tmp_path: Path) -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[16:32, 32:64] = 255
    Image.fromarray(mask).save(tmp_path / "block.png")
    small = load_small_mask(tmp_path / "block.png", 32)
    want = np.zeros((32, 32), np.uint8)
    want[8:16, 8:16] = 1
    assert small.dtype == np.uint8 and np.array_equal(small, want)
    dot = np.zeros((256, 256), np.uint8)
    dot[100, 100] = 255
    Image.fromarray(dot).save(tmp_path / "dot.png")
    assert load_small_mask(tmp_path / "dot.png", 16).sum() == 1
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(FlawlineError, match="marks nothing"):
        load_small_mask(tmp_path / "empty.png", 16)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(FlawlineError, match=r"text\.png cannot be read"):
        load_small_mask(tmp_path / "text.png", 16)
