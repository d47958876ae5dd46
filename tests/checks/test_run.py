import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.trees import category
from flawline.checks.run import run_checks
from flawline.data.manifest import build_manifest
from flawline.data.vocabulary import Vocabulary
from flawline.settings import Settings

from .conftest import Checked

AT = "castings/gear/train/good"
CRITICAL = {
    *("columns", "type_label", "type_width", "type_height", "unique_paths", "splits", "labels"),
    *("images_decode", "sizes", "masks_present", "masks_fit", "enough_good"),
    *("train_and_test_apart", "sets_apart"),
}
WARNING = {
    "masks_anywhere",
    "masks_of_types",
    "enough_good_tests",
    "enough_anomalous_tests",
    "known_defects",
    "contrast",
}


def test_sound_data_passes_every_expectation(sound: Checked) -> None:
    assert sound.summary.ok
    assert {finding.name: finding.ok for finding in sound.summary.findings} == dict.fromkeys(
        CRITICAL | WARNING, True
    )
    assert all(finding.offenders == () for finding in sound.summary.findings)
    severities = {finding.name: finding.severity for finding in sound.summary.findings}
    assert {name for name, severity in severities.items() if severity == "critical"} == CRITICAL
    assert sound.summary.counts == {
        "boards": {"pcb": {"good_train": 8, "good_test": 5, "burn": 5, "chip": 5}},
        "castings": {"gear": {"good_train": 8, "good_test": 5, "scratch": 5}},
    }


def test_data_docs_are_written(sound: Checked, broken: Checked) -> None:
    for checked in (sound, broken):
        assert (checked.docs / "index.html").is_file()
        (page,) = checked.docs.glob("validations/images/**/*.html")
        assert "Every image decodes." in page.read_text(encoding="utf-8")
    assert f"{AT}/0.png" in page.read_text(encoding="utf-8")
    assert not list(broken.docs.parent.glob(".*partial"))


def test_broken_data_fails(broken: Checked) -> None:
    assert not broken.summary.ok
    assert {finding.name for finding in broken.summary.broken("critical")} == {
        *("images_decode", "sizes", "masks_present", "masks_fit", "enough_good", "train_and_test_apart"),
    }
    assert {finding.name for finding in broken.summary.broken("warning")} == {"known_defects", "contrast"}


def test_every_image_that_does_not_decode_is_named(broken: Checked) -> None:
    assert broken.finding("images_decode").offenders == (
        f"{AT}/0.png: zero bytes",
        f"{AT}/1.png: a text file named .png, not an image",
        f"{AT}/2.png: truncated",
        f"{AT}/3.png: too large: 60000×60000 pixels, data.max_pixels allows 1000000",
        f"{AT}/5.png: a symbolic link that leaves the data folder",
    )


def test_sizes(broken: Checked) -> None:
    assert broken.finding("sizes").offenders == (
        f"{AT}/3.png: 60000×60000 pixels, not 64 to 8192",
        f"{AT}/4.png: 20×20 pixels, not 64 to 8192",
    )


def test_masks(broken: Checked) -> None:
    assert broken.finding("masks_present").offenders == (
        "boards/pcb/test/burn/0.png: has no mask in ground_truth/burn/",
        "castings/Gehäuse 2/test/scratch/Riß 1.png: has no mask in ground_truth/scratch/",
    )
    place = "mask boards/pcb/ground_truth/burn"
    assert broken.finding("masks_fit").offenders == (
        f"boards/pcb/test/burn/1.png: {place}/1_mask.png is 72×70 pixels, its image 72×72",
        f"boards/pcb/test/burn/2.png: {place}/2_mask.png is empty: no pixel is marked",
    )


def test_category_without_good_images(broken: Checked) -> None:
    told = ("castings/Gehäuse 2: 0 good training images, needs 8",)
    assert broken.finding("enough_good").offenders == told


def test_same_image_in_training_and_test(broken: Checked) -> None:
    twins = [
        (f"{AT}/7.png", "boards/pcb/test/good/0.png"),
        (f"{AT}/8.png", "castings/gear/test/good/1.png"),
    ]
    told = [f"{a}: same content as {b}" for pair in twins for a, b in (pair, pair[::-1])]
    assert broken.finding("train_and_test_apart").offenders == tuple(sorted(told))


def test_warnings(broken: Checked) -> None:
    told = ("boards: defect type 'wobble' is not in vocabulary.yaml",)
    assert broken.finding("known_defects").offenders == told
    assert broken.finding("contrast").offenders == (f"{AT}/6.png: nearly one colour",)


def test_a_data_set_in_train_and_test(
    sound_data: Path, check: Callable[..., Checked], make_settings: Callable[..., Settings]
) -> None:
    checked = check(sound_data, make_settings(["castings"], ["boards", "castings"]))
    assert [finding.name for finding in checked.summary.broken("critical")] == ["sets_apart"]
    assert checked.finding("sets_apart").offenders == ("castings: is in data.train and in data.test",)


def test_warnings_do_not_stop_the_line(
    tmp_path: Path, check: Callable[..., Checked], make_settings: Callable[..., Settings]
) -> None:
    category(tmp_path / "castings" / "gear")
    folder = category(tmp_path / "boards" / "pcb", train=0, test=4)
    for path in (folder / "ground_truth" / "scratch").iterdir():
        path.unlink()
    checked = check(tmp_path, make_settings(["castings"], ["boards"]))
    assert checked.summary.ok
    assert checked.finding("enough_good_tests").offenders == ("boards/pcb: 4 good test images",)
    assert checked.finding("enough_anomalous_tests").offenders == ("boards/pcb: 4 anomalous test images",)
    assert checked.finding("masks_anywhere").offenders == ("boards: no masks",)
    assert checked.finding("masks_present").ok  # no data set half masked


def test_a_type_that_came_without_masks_stops_nothing(
    tmp_path: Path, check: Callable[..., Checked], make_settings: Callable[..., Settings]
) -> None:
    """As an accepted cluster or a dropped folder brings it; but a type is not half masked."""
    category(tmp_path / "castings" / "gear")
    for name in ("pcb", "tile"):
        folder = category(tmp_path / "boards" / name, ("scratch", "burn", "chip"))
        for path in (folder / "ground_truth" / "burn").iterdir():
            path.unlink()
    category(tmp_path / "fabrics" / "felt", ("burn", "chip"))
    settings = make_settings(["castings"], ["boards", "fabrics"])
    checked = check(tmp_path, settings)
    assert checked.summary.ok and checked.finding("masks_present").ok
    assert checked.finding("masks_of_types").offenders == ("boards: defect type 'burn' has no masks",)
    for place in ("boards/tile/ground_truth/chip", "fabrics/felt/ground_truth/burn"):
        next(iter(sorted((tmp_path / place).iterdir()))).unlink()
    half = check(tmp_path, settings)
    assert not half.summary.ok
    assert half.finding("masks_present").offenders == (
        "boards/tile/test/chip/0.png: has no mask in ground_truth/chip/",
        "fabrics/felt/test/burn/0.png: has no mask in ground_truth/burn/",
    )


def test_types_without_masks_in_several_data_sets_stop_nothing(
    tmp_path: Path, check: Callable[..., Checked], make_settings: Callable[..., Settings]
) -> None:
    category(tmp_path / "castings" / "gear")
    for name in ("boards", "fabrics", "panels"):
        folder = category(tmp_path / name / "one", ("scratch", "burn"))
        shutil.rmtree(folder / "ground_truth" / "burn")
    checked = check(tmp_path, make_settings(["castings"], ["boards", "fabrics", "panels"]))
    assert checked.summary.ok and checked.finding("masks_present").ok
    assert len(checked.finding("masks_of_types").offenders) == 3


def spoiled(manifest: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    changed = manifest.copy()
    changed.loc[0, column] = value
    return changed


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        (
            "labels",
            lambda m: spoiled(m, "label", 0),
            "pcb/test/burn/0.png: label 0 contradicts defect 'burn'",
        ),
        ("splits", lambda m: spoiled(m, "split", "validation"), "split 'validation' is neither"),
        ("unique_paths", lambda m: spoiled(m, "image", m["image"][1]), "more than once"),
        ("columns", lambda m: m.rename(columns={"mask": "masque"}), "column 7 is 'masque', expected 'mask'"),
        ("columns", lambda m: m.drop(columns=["defect"]), "expected 'defect'"),
        ("type_width", lambda m: m.astype({"width": "float64"}), "found float64"),
    ],
)
def test_a_manifest_that_is_not_one(
    sound_data: Path, make_settings: Any, tmp_path: Path, name: str, spoil: Any, told: str
) -> None:
    settings = make_settings(["castings"], ["boards"])
    manifest = spoil(build_manifest(sound_data, settings.data.all))
    summary = run_checks(manifest, settings, Vocabulary(), sound_data, tmp_path / "docs")
    assert not summary.ok
    (finding,) = [finding for finding in summary.findings if finding.name == name]
    assert not finding.ok and told in finding.offenders[0]


def test_the_same_data_gives_the_same_summary(
    sound_data: Path, sound: Checked, check: Callable[..., Checked], make_settings: Callable[..., Settings]
) -> None:
    again = check(sound_data, make_settings(["castings"], ["boards"]))
    assert again.summary == sound.summary
    assert again.summary.as_markdown() == sound.summary.as_markdown()
