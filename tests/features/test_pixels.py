"""Pixels for methods that run the tower themselves: the same as `preprocess`, from memory or from disk."""

from pathlib import Path

import pytest
import torch

from flawline.clip.backbone import Backbone, load_backbone
from flawline.data.images import load_rgb
from flawline.errors import FlawlineError
from flawline.features.pixels import PixelReader, files_of
from flawline.features.store import FeatureSet
from flawline.files import read_parquet
from flawline.settings import BackboneSettings, Settings
from flawline.stages import features as stage
from flawline.workspace import Workspace


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSettings(name="flawline-tiny", weights="none", image_size=32), Path())


def files(small: Workspace) -> list[Path]:
    return [small.data / image for image in read_parquet(small.manifest)["image"]]


def test_pixels_are_what_the_backbone_sees(small: Workspace, backbone: Backbone) -> None:
    paths = files(small)
    rows = torch.tensor([4, 0, 4, 2])
    want = torch.stack([backbone.preprocess(load_rgb(paths[k])) for k in rows.tolist()])
    for keep in (0, 3 * 32 * 32, 1 << 20):
        reader = PixelReader(paths, backbone, 1_000_000, keep)
        assert torch.equal(reader(rows), want) and torch.equal(reader(rows), want)


def test_what_is_kept_is_not_read_again_and_memory_is_bounded(small: Workspace, backbone: Backbone) -> None:
    paths = files(small)
    reader = PixelReader(paths, backbone, 1_000_000, keep=2 * 3 * 32 * 32)
    first = reader(torch.tensor([0, 1, 2]))
    for path in paths:
        path.write_bytes(b"gone")
    assert torch.equal(reader(torch.tensor([0, 1])), first[:2])
    with pytest.raises(FlawlineError, match=r"000\.png|001\.png|002\.png"):
        reader(torch.tensor([2]))


def test_rows_of_a_folder_lead_to_their_files(
    synthetic: Workspace, change_settings, backbone: Backbone
) -> None:
    settings: Settings = change_settings()
    stage.run(synthetic, settings, "train", "parts")
    features = FeatureSet.open(synthetic.features("train", "parts"))
    found = files_of(features, synthetic)
    assert len(found) == len(features) and all(path.is_file() for path in found)
    made = features.index["synthetic"].to_numpy()
    for path, is_made in zip(found, made, strict=True):
        home = synthetic.synth("parts") if is_made else synthetic.data
        assert path.is_relative_to(home)
    assert made.any() and not made.all()
