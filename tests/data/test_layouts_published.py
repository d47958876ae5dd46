"""BTAD, KolektorSDD, KSDD2, DAGM, Real-IAD, MAD, MPDD and DTD-Synthetic, in exactly their published shapes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from flawline.data.images import load_mask, load_rgb, problem
from flawline.data.ingest import add_dataset
from flawline.data.layouts import Record, read_layout, read_source
from flawline.data.layouts.kolektor import Ksdd
from flawline.data.manifest import build_manifest
from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

from .published import btad, dagm, ksdd, ksdd2, mad_sim, mvtec_like, realiad
from .trees import mask, picture


def amounts(records: list[Record]) -> dict[tuple[str, str, str], int]:
    return dict(Counter((r.category, r.split, r.defect) for r in records))


def test_btad_masks_by_stem(workspace: Workspace, tmp_path: Path) -> None:
    reading = read_source(btad(tmp_path / "BTech_Dataset_transformed"))
    assert reading.layout == "btad"
    assert amounts(reading.records) == {
        key: 2
        for name in ("01", "02", "03")
        for key in ((name, "train", "good"), (name, "test", "good"), (name, "test", "ko"))
    }
    suffixes = {(r.category, r.image.suffix, r.mask.suffix) for r in reading.records if r.mask}
    assert suffixes == {("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")}
    add_dataset(workspace, tmp_path / "BTech_Dataset_transformed", "btad")
    table = build_manifest(workspace.data, ["btad"])
    assert table["problem"].isna().all() and table["mask"].notna().sum() == 6
    assert "btad/03/ground_truth/ko/0001_mask.bmp" in set(table["mask"])


def test_ksdd_becomes_pieces(tmp_path: Path) -> None:
    reading = read_source(ksdd(tmp_path, items=4, parts=2, height=250))
    assert reading.layout == "ksdd"
    bad = [record for record in reading.records if record.defect != "good"]
    good = [record for record in reading.records if record.defect == "good"]
    assert len(bad) == 4 and len(good) == 4 * 2 * 3 - 4
    assert all(record.split == "test" and record.name == f"{record.group}_Part0_1" for record in bad)
    assert {record.crop for record in bad} == {(0, 83, 80, 166)}  # 250 rows: 83, 83, 84
    assert {record.group for record in reading.records} == {"kos01", "kos02", "kos03", "kos04"}
    assert all(record.mask is None for record in good)


def test_ksdd_split_is_scikit_learns_over_sorted_pieces(tmp_path: Path) -> None:
    records = list(Ksdd().records(ksdd(tmp_path, items=4, parts=2)))
    names = [
        f"kos{item:02}_Part{part}_{piece}"
        for item in range(1, 5)
        for part in range(2)
        for piece in range(3)
        if (part, piece) != (0, 1)
    ]
    train, test = train_test_split(names, test_size=0.25, random_state=42)
    assert {r.name for r in records if r.split == "train"} == set(train)
    assert {r.name for r in records if r.split == "test" and r.defect == "good"} == set(test)


def test_ksdd_pieces_are_cut_at_ingestion(workspace: Workspace, tmp_path: Path) -> None:
    told = add_dataset(workspace, ksdd(tmp_path / "KolektorSDD"), "ksdd")
    assert told["pieces"] == {"rows": 3, "good_test_share": 0.25, "split_seed": 42}
    folder = workspace.data / "ksdd" / "electrical_commutators"
    cut = np.asarray(load_rgb(folder / "test/defect/kos02_Part0_1.png"))
    whole = np.asarray(load_rgb(tmp_path / "KolektorSDD/kos02/Part0.jpg"))
    assert np.array_equal(cut, whole[83:166])
    marked = load_mask(folder / "ground_truth/defect/kos02_Part0_1_mask.png")
    assert marked.shape == (83, 80) and marked.sum() == 100
    table = build_manifest(workspace.data, ["ksdd"])
    assert table["problem"].isna().all() and table["group"].notna().all()
    assert set(table.loc[table["image"].str.contains("kos03"), "group"]) == {"kos03"}
    assert not add_dataset(workspace, tmp_path / "KolektorSDD", "ksdd")["added"]


def test_ksdd_without_a_label_is_not_good(tmp_path: Path) -> None:
    ksdd(tmp_path)
    (tmp_path / "kos02" / "Part1_label.bmp").unlink()
    with pytest.raises(FlawlineError, match=r"Part1\.jpg has no label Part1_label"):
        read_source(tmp_path)


def test_ksdd2(tmp_path: Path) -> None:
    reading = read_source(ksdd2(tmp_path))
    assert reading.layout == "ksdd2"
    assert amounts(reading.records) == {
        ("surface", "train", "good"): 4,
        ("surface", "test", "good"): 4,
        ("surface", "test", "defect"): 2,
    }
    assert reading.facts["left_out"] == {"defective training images": 2}
    bad = [record for record in reading.records if record.mask]
    assert [record.mask.name for record in bad if record.mask] == ["20000_GT.png", "20001_GT.png"]


def test_dagm(workspace: Workspace, tmp_path: Path) -> None:
    reading = read_source(dagm(tmp_path / "DAGM"))
    assert reading.layout == "dagm" and "ellipses" in reading.facts["masks"]
    expected = {("train", "good"): 3, ("test", "good"): 3, ("test", "defect"): 1}
    assert amounts(reading.records) == {
        (name, *key): n for name in ("Class1", "Class10") for key, n in expected.items()
    }
    told = add_dataset(workspace, tmp_path / "DAGM", "dagm")
    assert told["left_out"] == {"defective training images": 2}
    assert told["message"].endswith("left out: 2 defective training images")
    assert (workspace.data / "dagm/Class1/ground_truth/defect/0002_mask.png").is_file()


def test_dagm_names_a_missing_label(tmp_path: Path) -> None:
    dagm(tmp_path)
    (tmp_path / "Class1" / "Test" / "Label" / "0002_label.PNG").unlink()
    with pytest.raises(
        FlawlineError, match=r"0002_label\.PNG, which is missing: its image would count as good"
    ):
        read_source(tmp_path)


def test_realiad_views_of_a_part_are_a_group(workspace: Workspace, tmp_path: Path) -> None:
    reading = read_source(realiad(tmp_path / "Real-IAD"))
    assert reading.layout == "realiad" and reading.facts["images"] == "realiad_512"
    expected = {("train", "good"): 5, ("test", "good"): 6, ("test", "AK"): 4}
    assert amounts(reading.records) == {
        (name, *key): n for name in ("usb", "zipper") for key, n in expected.items()
    }
    groups = Counter(record.group for record in reading.records)
    assert set(groups.values()) == {5} and groups["usb/NG/AK/S0003"] == 5
    add_dataset(workspace, tmp_path / "Real-IAD", "realiad")
    table = build_manifest(workspace.data, ["realiad"])
    assert table.groupby("group").size().tolist() == [5] * 6 and table["problem"].isna().all()
    one = table[table["group"] == "usb/NG/AK/S0003"]
    assert sorted(one["defect"]) == ["AK"] * 4 + ["good"]  # one view shows nothing


def test_realiad_single_view(tmp_path: Path) -> None:
    name, records = read_layout(realiad(tmp_path), "realiad_sv")
    assert name == "realiad_sv" and len(records) == 2 * 3
    assert {record.image.name.split("_C")[1][0] for record in records} == {"1"}


def test_realiad_documents_that_cannot_be(tmp_path: Path) -> None:
    realiad(tmp_path)
    path = tmp_path / "realiad_jsons" / "realiad_jsons" / "usb.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["test"][0]["image_path"] = "../../secret.jpg"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(FlawlineError, match=r"usb\.json names '\.\./\.\./secret\.jpg', which leads outside"):
        read_source(tmp_path)
    path.write_text('{"train": []}', encoding="utf-8")
    with pytest.raises(FlawlineError, match=r"usb\.json: test"):
        read_source(tmp_path)
    path.unlink()
    with pytest.raises(FlawlineError, match=r"usb\.json is missing"):
        read_source(tmp_path)
    (tmp_path / "realiad_1024" / "usb").mkdir(parents=True)
    with pytest.raises(FlawlineError, match="in several sizes: realiad_1024, realiad_512"):
        read_source(tmp_path)


def test_a_defect_class_cannot_name_a_path(workspace: Workspace, tmp_path: Path) -> None:
    realiad(tmp_path / "set")
    path = tmp_path / "set" / "realiad_jsons" / "realiad_jsons" / "usb.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["test"][-1]["anomaly_class"] = "../../../evil"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(FlawlineError, match=r"'\.\./\.\./\.\./evil', the name for .* cannot be a folder"):
        add_dataset(workspace, tmp_path / "set", "realiad")
    assert not (workspace.data / "realiad").exists()


def test_mad_sim(tmp_path: Path) -> None:
    reading = read_source(mad_sim(tmp_path))
    assert reading.layout == "mad_sim"
    assert {record.category for record in reading.records} == {"Gorilla", "Puppy"}
    assert all((record.mask is None) == (record.defect == "good") for record in reading.records)


def test_mad_real_masks_have_their_images_stem(tmp_path: Path) -> None:
    reading = read_source(mvtec_like(tmp_path, "Bear Bird Elephant Parrot Pig Puppy", "jpg", "", "Stains"))
    assert reading.layout == "mad_real"
    assert {r.mask.name for r in reading.records if r.mask} == {"000.png"}


def test_mpdd_ignores_validation(tmp_path: Path) -> None:
    root = mvtec_like(tmp_path, "bracket_black bracket_brown bracket_white connector metal_plate tubes")
    picture(root / "connector" / "validation" / "good" / "000.png")
    reading = read_source(root)
    assert reading.layout == "mpdd" and len(reading.records) == 6 * 3
    assert reading.facts == {"licence_published": "CC BY-NC-SA 4.0"}


def test_dtd_synthetic(tmp_path: Path) -> None:
    names = "Woven_001 Woven_068 Woven_104 Woven_125 Woven_127 Stratified_154"
    reading = read_source(mvtec_like(tmp_path, names, ending="", bad="bad"))
    assert reading.layout == "dtd_synthetic" and sum(r.mask is not None for r in reading.records) == 6


def test_one_category_of_a_published_set_is_a_users_own(tmp_path: Path) -> None:
    """`screw` alone may be anybody's: no licence of MVTec AD is claimed for it."""
    reading = read_source(mvtec_like(tmp_path, "screw"))
    assert reading.layout == "mvtec" and reading.facts == {}


def test_defects_of_the_published_sets_have_words(repository: Path) -> None:
    vocabulary = load_vocabulary(repository / "vocabulary.yaml")
    codes = "AK BX CH HS PS QS YW ZW"  # Real-IAD
    for defect in f"{codes} Burrs Missing Stains ko defect bad combined".split():
        assert vocabulary.knows("x", defect), defect
    assert vocabulary.object_words("btad", "03") != "03"
    assert vocabulary.object_words("ksdd", "electrical_commutators") == "electrical commutator"


def test_bmp_masks_of_every_depth(tmp_path: Path) -> None:
    """What BTAD and KolektorSDD hold: 1-bit, palette and 24-bit bitmaps mark the same pixels."""
    expected = np.zeros((72, 72), dtype=bool)
    expected[4:12, 4:12] = True
    grey = Image.open(mask(tmp_path / "grey.png"))
    for mode in ("1", "L", "P", "RGB"):
        path = tmp_path / f"{mode}.bmp"
        (grey.convert(mode) if mode != "1" else grey.point(lambda v: 255 * (v > 0), "1")).save(path)
        assert problem(path) is None and np.array_equal(load_mask(path), expected), mode
