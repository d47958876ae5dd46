"""VisA: the official split, types from annotations and masks, the numbers kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawline.data.ingest import add_dataset
from flawline.data.layouts import read_source
from flawline.data.layouts.visa_types import TYPES, folder_name
from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.workspace import Workspace

from .published import mvtec_like, numbered_mask, visa
from .trees import picture


def kinds(root: Path) -> dict[str, str]:
    """{class/image number: folder} of defective images."""
    reading = read_source(root)
    assert reading.layout == "visa"
    return {f"{r.category}/{r.image.stem}": r.defect for r in reading.records if r.defect != "good"}


def test_the_split_file_says_what_trains(tmp_path: Path) -> None:
    records = read_source(visa(tmp_path)).records
    sides = {(r.category, r.image.stem): r.split for r in records if r.defect == "good"}
    assert [sides["candle", f"{i:04}"] for i in range(4)] == ["train", "train", "train", "test"]
    assert all(r.split == "test" and r.mask is not None for r in records if r.defect != "good")
    assert all(r.mask is None for r in records if r.defect == "good")


def test_one_type_a_folder_several_are_combined(tmp_path: Path) -> None:
    assert kinds(visa(tmp_path)) == {
        "candle/000": "chunk_of_wax_missing",
        "candle/001": "combined",
        "candle/002": "other",
        "pcb1/000": "melt",  # no image_anno.csv: the mask's number
        "pcb1/001": "combined",
    }


def test_numbers_and_words_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    told = add_dataset(workspace, visa(tmp_path / "VisA"), "visa")
    card = read_json(workspace.data / "visa" / "dataset.json")
    assert card["mask_values"]["candle"]["1"] == "chunk of wax missing"
    assert card["mask_values"]["pcb1"] == {"1": "bent", "2": "melt", "3": "scratch", "4": "missing"}
    assert card["licence_published"] == "CC BY 4.0" and told["layout"] == "visa"
    copied = workspace.data / "visa/candle/ground_truth/combined/001_mask.png"
    assert set(np.unique(np.asarray(Image.open(copied))).tolist()) == {0, 1, 6}


def test_binarised_masks_have_no_table(tmp_path: Path) -> None:
    visa(tmp_path)
    for number in ("000", "001", "002"):
        numbered_mask(tmp_path / "candle/Data/Masks/Anomaly" / f"{number}.png", 255)
    for number in ("000", "001"):
        numbered_mask(tmp_path / "pcb1/Data/Masks/Anomaly" / f"{number}.png", 255)
    assert "mask_values" not in read_source(tmp_path).facts
    assert kinds(tmp_path)["candle/001"] == "combined" and kinds(tmp_path)["pcb1/000"] == "anomaly"


def test_masks_of_zero_and_one_have_no_table(tmp_path: Path) -> None:
    visa(tmp_path)
    for number in ("000", "001", "002"):
        numbered_mask(tmp_path / "candle/Data/Masks/Anomaly" / f"{number}.png", 1)
    assert set(read_source(tmp_path).facts["mask_values"]) == {"pcb1"}


def test_absent_classes_are_passed_over_absent_files_told(tmp_path: Path) -> None:
    visa(tmp_path)
    (tmp_path / "candle").rename(tmp_path.parent / "elsewhere")
    assert {record.category for record in read_source(tmp_path).records} == {"pcb1"}
    (tmp_path / "pcb1/Data/Images/Normal/0001.JPG").unlink()
    with pytest.raises(
        FlawlineError, match=r"1cls\.csv names pcb1/Data/Images/Normal/0001\.JPG, which is missing"
    ):
        read_source(tmp_path)


def test_no_split_file(tmp_path: Path) -> None:
    visa(tmp_path)
    (tmp_path / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(FlawlineError, match=r"1cls\.csv is missing: it says what trains"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("line", "clause"),
    [
        ("candle,train,normal,../secret.jpg,", "leads outside"),
        ("candle,train,normal,/etc/secret.jpg,", "leads outside"),
        ("candle,validation,normal,candle/Data/Images/Normal/0000.JPG,", "neither train nor test"),
        ("candle,train,anomaly,candle/Data/Images/Anomaly/000.JPG,", "is defective and trains"),
        ("candle,train", "lacks one of object"),
    ],
)
def test_lines_that_cannot_be(tmp_path: Path, line: str, clause: str) -> None:
    visa(tmp_path)
    with (tmp_path / "split_csv" / "1cls.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(FlawlineError, match=clause):
        read_source(tmp_path)


def test_every_type_has_a_folder_and_words(repository: Path) -> None:
    vocabulary = load_vocabulary(repository / "vocabulary.yaml")
    names = {folder_name(words) for table in TYPES.values() for words in table}
    assert len(TYPES) == 12 and sum(map(len, TYPES.values())) == 78
    assert sorted(name for name in names if not vocabulary.knows("visa", name)) == []


def test_visa_pytorch(tmp_path: Path) -> None:
    root = tmp_path / "VisA_pytorch"
    mvtec_like(root / "1cls", "candle pcb1", "JPG", "", bad="bad")
    picture(root / "2cls_highshot" / "candle" / "train" / "bad" / "000.JPG")
    reading = read_source(root)
    assert reading.layout == "visa_pytorch" and len(reading.records) == 6
    bad = [record for record in reading.records if record.defect == "bad"]
    assert all(record.mask is not None and record.mask.name == "000.png" for record in bad) and len(bad) == 2
