from pathlib import Path

import pandas as pd
import pytest

from flawline.data.manifest import COLUMNS, build_manifest, count_images
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.settings import load_settings
from flawline.stages import manifest as stage
from flawline.workspace import Workspace

from .trees import category, cut_short, huge_png, mask, picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    category(tmp_path / "data" / "castings" / "gear", train=3, test=2)
    category(tmp_path / "data" / "boards" / "pcb", ("burn", "chip"), train=1, test=1)
    return tmp_path / "data"


def problems(table: pd.DataFrame) -> dict[str, str]:
    bad = table[table["problem"].notna()]
    return dict(zip(bad["image"], bad["problem"], strict=True))


def test_columns_types_order_and_values(data: Path) -> None:
    table = build_manifest(data, ["castings", "boards"])
    assert list(table.columns) == list(COLUMNS)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == COLUMNS
    keys = table[["dataset", "category", "split", "defect", "image"]].values.tolist()
    assert keys == sorted(keys)
    assert len(table) == 4 + 7
    assert problems(table) == {}
    row = table[table["image"] == "castings/gear/test/scratch/1.png"].iloc[0]
    assert (row["label"], row["split"], row["width"], row["height"]) == (1, "test", 72, 72)
    assert row["mask"] == "castings/gear/ground_truth/scratch/1_mask.png"
    assert row["sha256"] == sha256_file(data / row["image"])
    good = table[table["defect"] == "good"]
    assert (good["label"] == 0).all() and good["mask"].isna().all()


def test_same_data_same_bytes(workspace: Workspace, data: Path) -> None:
    data.rename(workspace.data)
    settings = load_settings(workspace.params)
    settings = settings.model_copy(
        update={"data": settings.data.model_copy(update={"train": ["castings"], "test": ["boards"]})}
    )
    stage.run(workspace, settings)
    first = workspace.manifest.read_bytes()
    stage.run(workspace, settings)
    assert workspace.manifest.read_bytes() == first
    assert len(pd.read_parquet(workspace.manifest)) == 11


def test_counts(data: Path) -> None:
    assert count_images(build_manifest(data, ["castings", "boards"])) == {
        "boards": {"pcb": {"good_train": 1, "good_test": 1, "burn": 1, "chip": 1}},
        "castings": {"gear": {"good_train": 3, "good_test": 2, "scratch": 2}},
    }


def test_every_bad_image_is_a_row_with_its_problem(data: Path) -> None:
    good = data / "castings" / "gear" / "train" / "good"
    (good / "0.png").write_bytes(b"")
    (good / "1.png").write_text("hello")
    cut_short(good / "2.png")
    huge_png(good / "3.png")
    mask(data / "castings" / "gear" / "ground_truth" / "scratch" / "0_mask.png", (72, 71))
    mask(data / "castings" / "gear" / "ground_truth" / "scratch" / "1_mask.png", marked=False)
    table = build_manifest(data, ["castings"])
    at = "castings/gear/train/good"
    assert problems(table) == {
        f"{at}/0.png": "zero bytes",
        f"{at}/1.png": "a text file named .png, not an image",
        f"{at}/2.png": "truncated",
        f"{at}/3.png": "too large: 60000×60000 pixels, data.max_pixels allows 50000000",
        "castings/gear/test/scratch/0.png": (
            "mask castings/gear/ground_truth/scratch/0_mask.png is 72×71 pixels, its image 72×72"
        ),
        "castings/gear/test/scratch/1.png": (
            "mask castings/gear/ground_truth/scratch/1_mask.png is empty: no pixel is marked"
        ),
    }
    sizes = table.set_index("image")[["width", "height"]]
    assert sizes.loc[f"{at}/0.png"].tolist() == [0, 0]
    assert sizes.loc[f"{at}/3.png"].tolist() == [60_000, 60_000]


def test_spaces_and_other_letters(data: Path) -> None:
    picture(data / "castings" / "Zahnrad groß" / "train" / "good" / "日本 1.png")
    picture(data / "castings" / "Zahnrad groß" / "test" / "Riß & Bruch" / "ä ö.JPG")
    mask(data / "castings" / "Zahnrad groß" / "ground_truth" / "Riß & Bruch" / "ä ö_mask.png")
    table = build_manifest(data, ["castings"])
    assert problems(table) == {}
    row = table[table["defect"] == "Riß & Bruch"].iloc[0]
    assert row["image"] == "castings/Zahnrad groß/test/Riß & Bruch/ä ö.JPG"
    assert row["mask"] == "castings/Zahnrad groß/ground_truth/Riß & Bruch/ä ö_mask.png"


def test_links_that_leave_the_data_folder(data: Path, tmp_path: Path) -> None:
    outside = picture(tmp_path / "secret" / "0.png")
    good = data / "castings" / "gear" / "train" / "good"
    (good / "out.png").symlink_to(outside)
    (good / "gone.png").symlink_to(good / "nowhere.png")
    (good / "loop.png").symlink_to(good / "loop.png")
    (good / "in.png").symlink_to(data / "boards" / "pcb" / "train" / "good" / "0.png")
    (data / "castings" / "gear" / "test" / "rust").symlink_to(outside.parent, target_is_directory=True)
    found = problems(build_manifest(data, ["castings"]))
    at = "castings/gear/train/good"
    assert found == {
        f"{at}/out.png": "a symbolic link that leaves the data folder",
        f"{at}/gone.png": "a symbolic link to a file that is missing",
        f"{at}/loop.png": found[f"{at}/loop.png"],
        "castings/gear/test/rust/0.png": "a symbolic link that leaves the data folder",
    }
    assert found[f"{at}/loop.png"].startswith("a symbolic link")


def test_mask_link_that_leaves_the_data_folder(data: Path, tmp_path: Path) -> None:
    place = data / "castings" / "gear" / "ground_truth" / "scratch" / "0_mask.png"
    place.rename(tmp_path / "mask.png")
    place.symlink_to(tmp_path / "mask.png")
    found = problems(build_manifest(data, ["castings"]))
    assert list(found) == ["castings/gear/test/scratch/0.png"]
    assert found["castings/gear/test/scratch/0.png"].endswith("a symbolic link that leaves the data folder")


def test_missing_data_set(data: Path) -> None:
    with pytest.raises(FlawlineError) as error:
        build_manifest(data, ["castings", "fabrics"])
    text = str(error.value)
    assert "'fabrics' is missing" in text and str(data / "fabrics") in text and "boards, castings" in text
    assert "flawline data add FOLDER --name fabrics" in text and "dvc pull" in text


def test_data_set_in_another_layout(data: Path) -> None:
    picture(data / "own" / "good" / "0.png")
    with pytest.raises(FlawlineError, match="own is not in layout mvtec: found folders good"):
        build_manifest(data, ["own"])
