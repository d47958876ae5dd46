"""The stage: the folder it leaves, what decides chance, and faults."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flawline.clip.registry import model_config
from flawline.errors import FlawlineError
from flawline.files import read_json, read_parquet, sha256_file, sha256_folder, write_parquet
from flawline.settings import Settings
from flawline.stages import synthesize as stage
from flawline.workspace import Workspace


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    body = (y - size[1] / 2) ** 2 + (x - size[0] / 2) ** 2 < (min(size) / 3) ** 2
    values = np.where(body, 180, 50)[..., None] + rng.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.fixture
def factory(workspace: Workspace) -> Workspace:
    """Data set `parts`: four good training images, one of them large, and a test image not to be used."""
    rows = []
    sizes = [(96, 80), (96, 80), (700, 620), (96, 96)]
    for number, size in enumerate(sizes):
        category = ("bolt", "nut")[number // 2]
        rows.append((category, "train", f"parts/{category}/train/good/{number:03d}.png", size))
    rows.append(("bolt", "test", "parts/bolt/test/good/000.png", (96, 96)))
    table = []
    for seed, (category, split, image, size) in enumerate(rows):
        path = workspace.data / image
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed, size).save(path)
        entry = {"dataset": "parts", "category": category, "split": split, "defect": "good", "label": 0}
        table.append(entry | {"image": image, "mask": None, "sha256": sha256_file(path), "problem": None})
    write_parquet(workspace.manifest, pd.DataFrame(table).astype({"label": "int8"}))
    return workspace


def changed(settings: Settings, **synth: object) -> Settings:
    patch = model_config("flawline-tiny")["vision_cfg"]["patch_size"]
    raw = settings.model_dump()
    raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": 4 * patch, "seed": 0}
    raw["synth"] |= {"variants": 2, "object_mask": "otsu"} | synth
    return Settings.model_validate(raw)


def test_the_folder(factory: Workspace, settings: Settings) -> None:
    stage.run(factory, changed(settings), "parts")
    folder = factory.synth("parts")
    index = read_parquet(folder / "index.parquet")
    assert list(index.columns) == ["file", "source", "category", "noise", "area"]
    assert index["file"].tolist() == [f"{n:05d}.png" for n in range(8)]
    assert not index["source"].str.contains("test").any()
    assert index["source"].value_counts().tolist() == [2] * 4
    for name in ("images", "masks"):
        assert sorted(p.name for p in (folder / name).iterdir()) == index["file"].tolist()
    objects = read_json(folder / "objects" / "index.json")
    assert list(objects) == sorted(set(index["source"]))
    for row in index.itertuples():
        with Image.open(factory.data / row.source) as source:
            large = max(source.size) > stage.WORKING_SIDE
            good = np.asarray(source.convert("RGB"))
        made = np.asarray(Image.open(folder / "images" / row.file))
        mask = np.asarray(Image.open(folder / "masks" / row.file))
        inside = np.asarray(Image.open(folder / "objects" / objects[row.source]["file"])) > 0
        assert objects[row.source]["from"] == "otsu"
        assert set(np.unique(mask)) == {0, 255} and mask.shape == made.shape[:2] == inside.shape
        assert not ((mask > 0) & ~inside).any()
        assert row.area == pytest.approx((mask > 0).sum() / inside.sum())
        if large:
            assert max(made.shape) == stage.WORKING_SIDE
        else:  # at its own size the picture differs where the mask says, and nowhere else
            differs = (made != good).any(axis=-1)
            assert differs.any() and not (differs & (mask == 0)).any()
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.size[0] > 400 and sheet.size[1] > 100


def test_a_second_run_writes_the_same_bytes(factory: Workspace, settings: Settings) -> None:
    stage.run(factory, changed(settings, object_mask="clip"), "parts")
    before = sha256_folder(factory.synth("parts"))
    np.random.seed(5)
    stage.run(factory, changed(settings, object_mask="clip"), "parts")
    assert sha256_folder(factory.synth("parts")) == before
    stage.run(factory, changed(settings, object_mask="clip", seed=1), "parts")
    assert sha256_folder(factory.synth("parts")) != before


def test_an_images_anomalies_depend_on_nothing_but_its_bytes(factory: Workspace, settings: Settings) -> None:
    stage.run(factory, changed(settings), "parts")
    folder = factory.synth("parts")
    index = read_parquet(folder / "index.parquet")
    source = index["source"].iloc[-1]
    before = [(folder / "images" / f).read_bytes() for f in index["file"][index["source"] == source]]
    table = read_parquet(factory.manifest)
    write_parquet(factory.manifest, table[table["image"] == source])
    stage.run(factory, changed(settings), "parts")
    after = [(folder / "images" / f).read_bytes() for f in ("00000.png", "00001.png")]
    assert before == after and before[0] != before[1]


def test_one_more_variant_leaves_the_first_ones(factory: Workspace, settings: Settings) -> None:
    stage.run(factory, changed(settings, variants=1), "parts")
    folder = factory.synth("parts")
    first = [(folder / "images" / f"{n:05d}.png").read_bytes() for n in range(4)]
    stage.run(factory, changed(settings, variants=3), "parts")
    assert [(folder / "images" / f"{3 * n:05d}.png").read_bytes() for n in range(4)] == first


def test_the_object_comes_from_clip_when_asked(
    factory: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words reach CLIP, and its map decides where the colours agree."""
    asked: list[str] = []
    real = stage.word_direction

    def spy(backbone: object, words: str) -> object:
        asked.append(words)
        return real(backbone, words)  # type: ignore[arg-type]

    def perfect(patches: object, direction: object, grid: int) -> np.ndarray:
        y, x = np.mgrid[:grid, :grid]
        away = np.hypot(y - grid / 2 + 0.5, x - grid / 2 + 0.5)
        return (away < grid / 3)[None].astype(np.float32)

    monkeypatch.setattr(stage, "word_direction", spy)
    monkeypatch.setattr(stage, "similarity_maps", perfect)
    fine = changed(settings, object_mask="clip")
    fine = fine.model_copy(update={"backbone": fine.backbone.model_copy(update={"image_size": None})})
    stage.run(factory, fine, "parts")
    assert asked == ["bolt", "nut"]  # once a category, in the words of the vocabulary
    objects = read_json(factory.synth("parts") / "objects" / "index.json")
    assert {entry["from"] for entry in objects.values()} == {"clip+otsu"}


def test_faults_leave_nothing_behind(factory: Workspace, settings: Settings) -> None:
    with pytest.raises(FlawlineError, match="nuts: the manifest lists no good training images"):
        stage.run(factory, changed(settings), "nuts")
    with pytest.raises(FlawlineError, match=r"synth\.noises: there is no noise 'perlin'"):
        stage.run(factory, changed(settings, noises={"perlin": 1.0}), "parts")
    (factory.data / "parts/nut/train/good/003.png").write_bytes(b"")
    with pytest.raises(FlawlineError, match=r"003\.png: zero bytes"):
        stage.run(factory, changed(settings), "parts")
    table = read_parquet(factory.manifest)
    table.loc[0, "problem"] = "truncated"
    write_parquet(factory.manifest, table)
    with pytest.raises(FlawlineError, match=r"000\.png: truncated"):
        stage.run(factory, changed(settings), "parts")
    assert not Path(factory.synth("parts")).exists()
