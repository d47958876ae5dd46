"""Feature folders: what is written is read, whole or not at all, and a mismatch is told."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flawline.clip.backbone import Backbone, load_backbone
from flawline.clip.registry import model_config
from flawline.errors import FlawlineError
from flawline.features.store import INDEX_COLUMNS, FeatureSet, write_features
from flawline.settings import BackboneSettings, FeatureSettings, ImagePath

PATHS = {"vv": ImagePath(attention="vv"), "laa": ImagePath(attention="vv", radius=2)}


def backbone_settings(**given: Any) -> BackboneSettings:
    small = 4 * model_config("flawline-tiny")["vision_cfg"]["patch_size"]
    return BackboneSettings(**({"name": "flawline-tiny", "weights": "none", "image_size": small} | given))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(backbone_settings(), Path("nowhere"))


def index_of(count: int) -> pd.DataFrame:
    rows = [
        (n, f"a/{n}.png", "nut", "good" if n % 2 else "stain", 1 - n % 2, None, f"{n:064x}", n % 2 == 0)
        for n in range(count)
    ]
    return pd.DataFrame(rows, columns=INDEX_COLUMNS)


def write(folder: Path, backbone: Backbone, dtype: str = "float16", seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, cells = 5, backbone.grid**2
    given = {
        "cls": rng.normal(size=(n, backbone.dim)).astype(np.float32),
        "vv": rng.normal(size=(n, 1, cells, backbone.dim)).astype(np.float32),
        "laa": rng.normal(size=(n, 1, cells, backbone.dim)).astype(np.float32),
    }
    settings = FeatureSettings(paths=PATHS, dtype=dtype, batch=2)  # type: ignore[arg-type]
    with write_features(folder, index_of(n), backbone, settings, with_masks=True) as arrays:
        arrays.cls["vv"][:] = given["cls"]
        arrays.patches["vv"][:] = given["vv"]
        arrays.patches["laa"][:] = given["laa"]
        assert arrays.masks is not None
        arrays.masks[0, 3, 4] = 1
    return given


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read(tmp_path: Path, backbone: Backbone, dtype: str) -> None:
    given = write(tmp_path / "f", backbone, dtype)
    features = FeatureSet.open(tmp_path / "f", backbone, PATHS)
    assert len(features) == 5 and features.grid == backbone.grid
    assert list(features.index.columns) == INDEX_COLUMNS
    assert features.index["image"].tolist() == [f"a/{n}.png" for n in range(5)]
    assert np.array_equal(features.cls("vv"), given["cls"])
    for name in PATHS:
        assert features.patches(name).dtype == np.dtype(dtype)
        assert np.array_equal(features.patches(name), given[name].astype(dtype))
        assert isinstance(features.patches(name), np.memmap)
    assert features.masks.shape == (5, backbone.image_size, backbone.image_size)
    assert int(features.masks.sum()) == 1 and features.masks[0, 3, 4] == 1
    assert features.card["backbone"]["weights_sha256"] == backbone.weights_sha256
    assert (features.card["grid"], features.card["dim"]) == (backbone.grid, backbone.dim)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "one", backbone)
    write(tmp_path / "two", backbone)
    write(tmp_path / "other", backbone, seed=1)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert digest(tmp_path / "one")["cls-vv.npy"] != digest(tmp_path / "other")["cls-vv.npy"]


def test_a_failure_in_the_middle_leaves_the_old_folder(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "f", backbone)
    before = digest(tmp_path / "f")
    with (
        pytest.raises(RuntimeError, match="killed"),
        write_features(tmp_path / "f", index_of(2), backbone, FeatureSettings(paths=PATHS), False),
    ):
        raise RuntimeError("killed")
    assert digest(tmp_path / "f") == before
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_arrays_cannot_be_changed_by_readers(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "f", backbone)
    with pytest.raises(ValueError, match="read-only"):
        FeatureSet.open(tmp_path / "f").cls("vv")[0, 0] = 3.0


def test_another_backbone_is_told(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "f", backbone)
    other = load_backbone(backbone_settings(seed=9), tmp_path)
    with pytest.raises(FlawlineError, match=r"another backbone \(.*seed 0, now 9"):
        FeatureSet.open(tmp_path / "f", other)


def test_other_paths_are_told(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "f", backbone)
    with pytest.raises(FlawlineError, match="path 'vv' was read as"):
        FeatureSet.open(tmp_path / "f", paths={"vv": ImagePath(attention="vv", first_block=2)})
    with pytest.raises(FlawlineError, match="path 'qk' was read as nothing"):
        FeatureSet.open(tmp_path / "f", paths={"qk": ImagePath(attention="qk")})
    with pytest.raises(FlawlineError, match=r"no features for path 'qk' \(it has laa, vv\)"):
        FeatureSet.open(tmp_path / "f").patches("qk")


def test_missing_and_damaged_files_are_named(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(FlawlineError, match="f is missing"):
        FeatureSet.open(tmp_path / "f")
    write(tmp_path / "f", backbone)
    (tmp_path / "f" / "cls-vv.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(FlawlineError, match=r"cls-vv\.npy cannot be read"):
        FeatureSet.open(tmp_path / "f").cls("vv")
    (tmp_path / "f" / "cls-vv.npy").unlink()
    with pytest.raises(FlawlineError, match=r"cls-vv\.npy is missing"):
        FeatureSet.open(tmp_path / "f").cls("vv")
    np.save(tmp_path / "f" / "cls-vv.npy", np.zeros((4, backbone.dim), np.float32))
    with pytest.raises(FlawlineError, match=r"its card says \[5, "):
        FeatureSet.open(tmp_path / "f").cls("vv")
    card = json.loads((tmp_path / "f" / "card.json").read_text())
    (tmp_path / "f" / "card.json").write_text("{" + json.dumps(card))
    with pytest.raises(FlawlineError, match=r"card\.json is not valid JSON"):
        FeatureSet.open(tmp_path / "f")


def test_no_pickle_is_opened(tmp_path: Path, backbone: Backbone) -> None:
    write(tmp_path / "f", backbone)
    np.save(tmp_path / "f" / "cls-vv.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FlawlineError, match=r"cls-vv\.npy cannot be read"):
        FeatureSet.open(tmp_path / "f").cls("vv")
