"""Small trees in exactly the shape in which public data sets are published; every picture is different."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .trees import SIDE, mask, picture


def write_csv(path: Path, header: str, rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([tuple(header.split(",")), *rows])


def numbered_mask(path: Path, *values: int) -> Path:
    """A grey mask with one square for each value."""
    pixels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for place, value in enumerate(values):
        pixels[4:12, 4 + 12 * place : 12 + 12 * place] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def visa(root: Path) -> Path:
    """Two classes: candle with types in image_anno.csv and in masks, pcb1 with masks alone."""
    split: list[tuple[str, ...]] = []
    shown = {
        "candle": {
            "000": ("chunk of wax missing", (1,)),
            "001": ("foreign particals on candle,chunk of wax missing", (1, 6)),
            "002": ("other", (8,)),
        },
        "pcb1": {"000": (None, (2,)), "001": (None, (1, 4))},
    }
    for name, bad in shown.items():
        annotation: list[tuple[str, ...]] = []
        for i in range(4):
            image = f"{name}/Data/Images/Normal/{i:04}.JPG"
            picture(root / image)
            annotation.append((image, "normal", ""))
            split.append((name, "train" if i < 3 else "test", "normal", image, ""))
        for number, (types, values) in bad.items():
            image, masked = (
                f"{name}/Data/Images/Anomaly/{number}.JPG",
                f"{name}/Data/Masks/Anomaly/{number}.png",
            )
            picture(root / image)
            numbered_mask(root / masked, *values)
            annotation.append((image, types or "", masked))
            split.append((name, "test", "anomaly", image, masked))
        if name != "pcb1":
            write_csv(root / name / "image_anno.csv", "image,label,mask", annotation)
    for protocol in ("1cls", "2cls_fewshot", "2cls_highshot"):
        write_csv(root / "split_csv" / f"{protocol}.csv", "object,split,label,image,mask", split)
    return root


def btad(root: Path) -> Path:
    """BMP images in 01 and 03, PNG in 02; masks PNG, in 03 BMP."""
    for name, shown, masked in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for i in range(2):
            picture(root / name / "train" / "ok" / f"{i:04}.{shown}")
            picture(root / name / "test" / "ok" / f"{i:04}.{shown}")
            picture(root / name / "test" / "ko" / f"{i:04}.{shown}")
            mask(root / name / "ground_truth" / "ko" / f"{i:04}.{masked}")
    return root


def ksdd(root: Path, items: int = 4, parts: int = 2, height: int = 250) -> Path:
    """Part0 of every item has a mark in its middle third; pictures are higher than wide."""
    for item in range(1, items + 1):
        for part in range(parts):
            noise = np.random.default_rng([item, part]).integers(0, 256, (height, 80), dtype=np.uint8)
            folder = root / f"kos{item:02}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(folder / f"Part{part}.jpg")
            marked = np.zeros((height, 80), dtype=np.uint8)
            if part == 0:
                marked[height // 2 - 5 : height // 2 + 5, 10:20] = 255
            Image.fromarray(marked).save(folder / f"Part{part}_label.bmp")
    return root


def ksdd2(root: Path) -> Path:
    """Of six images on each side the first two are defective."""
    for split, start in (("train", 10000), ("test", 20000)):
        for i in range(6):
            picture(root / split / f"{start + i}.png")
            mask(root / split / f"{start + i}_GT.png", marked=i < 2)
    return root


def dagm(root: Path) -> Path:
    """Class1 and Class10 with Labels.txt; the second of four images on each side is defective."""
    for name in ("Class1", "Class10"):
        for side in ("Train", "Test"):
            lines = ["1"]
            for i in range(1, 5):
                picture(root / name / side / f"{i:04}.PNG")
                defective = i == 2
                label = f"{i:04}_label.PNG" if defective else "0"
                lines.append(f"{i}\t{int(defective)}\t{i:04}.PNG\t0\t{label}")
            mask(root / name / side / "Label" / "0002_label.PNG")
            (root / name / side / "Label" / "Labels.txt").write_text(
                "\n".join(lines) + "\n", encoding="utf-8"
            )
    return root


def realiad(root: Path, single: bool = True) -> Path:
    """Two classes of three parts with five views: S0001 trains, S0003 is defective (AK; one view shows nothing)."""
    folder, jsons = root / "realiad_512", root / "realiad_jsons"
    for name in ("usb", "zipper"):
        train, test = [], []
        for part, place in (("0001", "OK"), ("0002", "OK"), ("0003", "NG/AK")):
            for view in range(1, 6):
                code = place.replace("/", "_")
                stem = f"{place}/S{part}/{name}_{part}_{code}_C{view}_20231023144823"
                picture(folder / name / f"{stem}.jpg")
                bad = place != "OK" and view != 3
                if bad:
                    mask(folder / name / f"{stem}_mask.png")
                entry = {
                    "category": name,
                    "anomaly_class": "AK" if bad else "OK",
                    "image_path": f"{stem}.jpg",
                    "mask_path": f"{stem}_mask.png" if bad else None,
                }
                (train if part == "0001" else test).append(entry)
        meta = {"normal_class": "OK", "prefix": f"{name}/"}
        write = {"realiad_jsons": (train, test)}
        if single:
            write["realiad_jsons_sv"] = (
                train[:1],
                [entry for entry in test if "_C1_" in entry["image_path"]],
            )
        for kind, (trains, tests) in write.items():
            place_of = jsons / kind / f"{name}.json"
            place_of.parent.mkdir(parents=True, exist_ok=True)
            place_of.write_text(json.dumps({"meta": meta, "train": trains, "test": tests}), encoding="utf-8")
    return root


def mad_sim(root: Path) -> Path:
    """Two toys; good images have black masks, and poses lie beside."""
    for name in ("01Gorilla", "20Puppy"):
        for i in range(3):
            picture(root / name / "train" / "good" / f"{i}.png")
            picture(root / name / "test" / "good" / f"{i}.png")
            mask(root / name / "ground_truth" / "good" / f"{i}_mask.png", marked=False)
        for kind in ("Burrs", "Missing", "Stains"):
            picture(root / name / "test" / kind / "0.png")
            mask(root / name / "ground_truth" / kind / "0_mask.png")
        (root / name / "transforms.json").write_text("{}", encoding="utf-8")
    return root


def mvtec_like(
    root: Path, names: str, suffix: str = "png", ending: str = "_mask", bad: str = "scratch"
) -> Path:
    """Categories in MVTec layout with one good image on each side and one defective one."""
    for name in names.split():
        picture(root / name / "train" / "good" / f"000.{suffix}")
        picture(root / name / "test" / "good" / f"000.{suffix}")
        picture(root / name / "test" / bad / f"000.{suffix}")
        mask(root / name / "ground_truth" / bad / f"000{ending}.png")
    return root
