import os
import unicodedata
from pathlib import Path

import pytest

from flawline.data import layouts
from flawline.data.layouts import Record, base, match_masks, read_layout, recognise
from flawline.errors import FlawlineError

from .trees import category, mask, picture


def test_mvtec(tmp_path: Path) -> None:
    category(tmp_path / "gear", ("scratch", "rust"), train=2, test=1)
    name, records = read_layout(tmp_path)
    assert name == "mvtec"
    at = tmp_path / "gear"
    assert records == [
        Record("gear", "test", "good", at / "test/good/0.png"),
        Record("gear", "test", "rust", at / "test/rust/0.png", at / "ground_truth/rust/0_mask.png"),
        Record("gear", "test", "scratch", at / "test/scratch/0.png", at / "ground_truth/scratch/0_mask.png"),
        Record("gear", "train", "good", at / "train/good/0.png"),
        Record("gear", "train", "good", at / "train/good/1.png"),
    ]


def test_mvtec_single_category(tmp_path: Path) -> None:
    category(tmp_path / "gear", train=1, test=1)
    name, records = read_layout(tmp_path / "gear")
    assert name == "mvtec" and {record.category for record in records} == {"gear"}


def test_mvtec_category_without_good_images_is_seen(tmp_path: Path) -> None:
    category(tmp_path / "gear", train=1, test=1)
    picture(tmp_path / "housing" / "test" / "scratch" / "0.png")
    assert {record.category for record in read_layout(tmp_path)[1]} == {"gear", "housing"}


def test_mvtec_defects_in_training_are_told(tmp_path: Path) -> None:
    category(tmp_path / "gear", train=1, test=1)
    picture(tmp_path / "gear" / "train" / "scratch" / "0.png")
    with pytest.raises(FlawlineError, match=r"train/scratch: training folders hold good images only"):
        read_layout(tmp_path)


def test_folder(tmp_path: Path) -> None:
    root = tmp_path / "My parts"
    for i in range(40):
        picture(root / "good" / f"{i}.jpg")
    picture(root / "scratch" / "7.jpg")
    picture(root / "scratch" / "8.jpg")
    mask(root / "masks" / "scratch" / "7-label.png")
    name, records = read_layout(root)
    assert name == "folder"
    assert {record.category for record in records} == {"My parts"}
    train = [record for record in records if record.split == "train"]
    assert 20 <= len(train) <= 35 and all(record.defect == "good" for record in train)
    bad = {record.image.name: record.mask for record in records if record.defect == "scratch"}
    assert bad == {"7.jpg": root / "masks" / "scratch" / "7-label.png", "8.jpg": None}


def test_folder_split_follows_the_content_alone(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / "a" / "good" / f"{i}.png")
    (tmp_path / "b" / "good").mkdir(parents=True)
    for i in range(20):
        content = (tmp_path / "a" / "good" / f"{i}.png").read_bytes()
        (tmp_path / "b" / "good" / f"renamed {19 - i}.png").write_bytes(content)
    splits = [
        {record.image.read_bytes(): record.split for record in read_layout(tmp_path / name, "folder")[1]}
        for name in "ab"
    ]
    assert splits[0] == splits[1] and set(splits[0].values()) == {"train", "test"}


def test_folder_of_categories(tmp_path: Path) -> None:
    picture(tmp_path / "gear" / "good" / "0.png")
    picture(tmp_path / "gear" / "rust" / "0.png")
    picture(tmp_path / "nut" / "rust" / "0.png")
    name, records = read_layout(tmp_path)
    assert name == "folder"
    assert [(record.category, record.defect) for record in records] == [
        ("gear", "good") if record.defect == "good" else (record.category, "rust") for record in records
    ]
    assert {record.category for record in records} == {"gear", "nut"}  # nut has no good images: checks tell


def test_unknown_layout_shows_what_is_there_and_what_is_expected(tmp_path: Path) -> None:
    picture(tmp_path / "ok" / "0.png")
    picture(tmp_path / "ng" / "0.png")
    with pytest.raises(FlawlineError) as error:
        recognise(tmp_path)
    text = str(error.value)
    assert "found folders ng, ok" in text
    assert "mvtec: <category>/train/good" in text and "folder: good/*" in text
    assert "\n" not in text


def test_unknown_layout_name_and_wrong_layout(tmp_path: Path) -> None:
    picture(tmp_path / "good" / "0.png")
    with pytest.raises(FlawlineError, match=r"unknown layout 'voc'.*auto or one of: .*mvtec, folder"):
        read_layout(tmp_path, "voc")
    with pytest.raises(FlawlineError, match="not in layout mvtec"):
        read_layout(tmp_path, "mvtec")


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match="is not a folder"):
        recognise(tmp_path / "missing")
    (tmp_path / "good").mkdir()
    with pytest.raises(FlawlineError, match="but no image"):
        read_layout(tmp_path)


def test_masks_belong_to_the_longest_stem(tmp_path: Path) -> None:
    shown = [picture(tmp_path / "a" / name) for name in ("1.jpg", "1_1.jpg", "10.jpg", "x y.png", "7.png")]
    for name in ("1_mask.png", "1_1.png", "10 mask.png", "x y_mask.png", "70.png"):
        mask(tmp_path / "masks" / name)
    found = {image.name: path.name for image, path in match_masks(shown, tmp_path / "masks").items()}
    assert found == {
        "1.jpg": "1_mask.png",
        "1_1.jpg": "1_1.png",
        "10.jpg": "10 mask.png",
        "x y.png": "x y_mask.png",
    }


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    shown = [picture(tmp_path / "a" / "1.jpg")]
    mask(tmp_path / "m" / "1.png")
    mask(tmp_path / "m" / "1_mask.png")
    with pytest.raises(FlawlineError, match=r"1\.jpg has two masks: 1\.png and 1_mask\.png"):
        match_masks(shown, tmp_path / "m")


def test_masks_match_across_unicode_spellings(tmp_path: Path) -> None:
    shown = [picture(tmp_path / "a" / unicodedata.normalize("NFC", "Prüfling é.png"))]
    mask(tmp_path / "m" / unicodedata.normalize("NFD", "Prüfling é_mask.png"))
    assert len(match_masks(shown, tmp_path / "m")) == 1


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    category(tmp_path / "gear", train=1, test=1)
    count = len(read_layout(tmp_path)[1])
    (tmp_path / "gear" / "train" / "good" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "gear" / "train" / "good" / "._0.png").write_bytes(b"x")
    (tmp_path / ".cache" / "train" / "good").mkdir(parents=True)
    os.mkfifo(tmp_path / "gear" / "train" / "good" / "pipe.png")
    assert len(read_layout(tmp_path)[1]) == count


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(FlawlineError, match=r"caf\\xe9\.png: the name is not UTF-8"):
        read_layout(tmp_path)


def test_a_layout_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LAYOUTS", dict(layouts.LAYOUTS))

    @layouts.register
    class OkNg:
        name = "okng"
        expects = "ok/* and ng/*"

        def matches(self, root: Path) -> bool:
            return (root / "ok").is_dir()

        def records(self, root: Path):
            yield from (Record("part", "train", "good", image) for image in layouts.images(root / "ok"))

    picture(tmp_path / "ok" / "0.png")
    assert read_layout(tmp_path)[0] == "okng"
