"""A made workspace as the stages would leave it: pictures of plates with scratches and spots, made-up scores.

The evaluation folders and the joined tables come from the real code, so that the page is tested on what it
will meet; only images, scores, cards and curves are invented.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from flawline.evaluate.cell import Identity, evaluate_stream, write_cell
from flawline.evaluate.context import read_context
from flawline.evaluate.scoring import HeldScores
from flawline.files import sha256_file, write_json, write_parquet, write_text
from flawline.settings import Settings, load_settings
from flawline.stages import compare
from flawline.workspace import Cell, Workspace

SIDE = 64
CATEGORIES = {"boards": ("chips", "connectors", "pads"), "fabrics": ("denim", "felt")}
DEFECTS = ("scratch", "spot")  # the training set has scratches: spots are new
NO_MASKS = ("boards", "pads")
SKILL = {"words": 0.9, "human_free": 1.9, "dapo": 1.4, "patch_memory": 1.2}


def picture(category: str, defect: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """An RGB image [SIDE, SIDE, 3] uint8 and its mask [SIDE, SIDE] bool."""
    random = np.random.default_rng(abs(sum(map(ord, category + defect))) * 1000 + number)
    grain = ndimage.gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), (0.6, 2.5)) * 26
    tint = np.asarray([150, 152, 158]) + 12 * (sum(map(ord, category)) % 5 - 2) * np.asarray([1, 0.2, -0.8])
    image = tint + grain[..., None] + np.linspace(-14, 14, SIDE)[:, None, None]
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre, angle = random.uniform(0.3, 0.7, 2) * SIDE, random.uniform(0, np.pi)
    if defect == "scratch":
        across = (rows - centre[0]) * np.cos(angle) - (columns - centre[1]) * np.sin(angle)
        along = (rows - centre[0]) * np.sin(angle) + (columns - centre[1]) * np.cos(angle)
        mask = (np.abs(across) < 1.3) & (np.abs(along) < random.uniform(8, 20))
        image[mask] += 70
    elif defect == "spot":
        mask = np.hypot(rows - centre[0], columns - centre[1]) < random.uniform(4, 9)
        image[mask] *= 0.55
    return np.clip(image, 0, 255).astype(np.uint8), mask


def scored(masks: np.ndarray, skill: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image scores [n] and maps [n, SIDE, SIDE] of a made-up detector."""
    random = np.random.default_rng(seed)
    strength = random.gamma(3, skill / 3, len(masks))[:, None, None]
    noise = ndimage.gaussian_filter(random.normal(0, 1, masks.shape), (0, 3, 3)) * 5
    maps = ndimage.gaussian_filter(masks.astype(float), (0, 2, 2)) * strength + 0.55 * noise
    maps = (1 / (1 + np.exp(1.5 - maps))).astype(np.float32)
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -40:].mean(axis=1), maps


def typed(defects: pd.Series, seed: int) -> np.ndarray:
    """Made-up probabilities [n, 1 + K] of good and of the types: right more often than not."""
    random = np.random.default_rng(100 + seed)
    truth = np.stack([defects == name for name in ("good", *DEFECTS)], axis=1)
    raw = random.random(truth.shape) + 0.7 * truth
    return raw / raw.sum(axis=1, keepdims=True)


def build(
    root: Path, repository: Path, per_kind: int = 4, methods: tuple[str, ...] = tuple(SKILL)
) -> tuple[Workspace, Settings]:
    """Fill `root` with everything the report reads."""
    root.mkdir(parents=True, exist_ok=True)
    params = (repository / "params.yaml").read_text(encoding="utf-8")
    params = re.sub(r"(?m)^  methods: \[.*\]$", f"  methods: [{', '.join(methods)}]", params)
    for key, value in (("bootstrap", 100), ("bins", 256), ("overlays", 1)):
        params = re.sub(rf"(?m)^  {key}: \d+", f"  {key}: {value}", params, count=1)
    write_text(root / "params.yaml", params)
    write_text(root / "vocabulary.yaml", "defects: {}\n")  # folders are words already
    workspace, settings = Workspace(root), load_settings(root / "params.yaml")
    assert settings.evaluate.bootstrap == 100
    tables = {test: _images(test, per_kind) for test in settings.data.test}
    _manifest(workspace, [table for table, *_ in tables.values()])
    _cards(workspace, settings)
    for test, (index, pictures, masks) in tables.items():
        folder = workspace.features("test", test)
        write_parquet(folder / "index.parquet", index)
        write_json(folder / "card.json", {"backbone": "flawline-tiny"})
        _evaluate(workspace, settings, test, index, pictures, masks)
    compare.run(workspace, settings)
    _checks(workspace, settings, per_kind)
    _sheet(workspace)
    _decisions(workspace)
    _ablation(workspace)
    return workspace, settings


def _images(test: str, per_kind: int) -> tuple[pd.DataFrame, dict[str, Image.Image], np.ndarray]:
    rows, pictures, masks = [], {}, []
    for category in CATEGORIES[test]:
        for defect in ("good", *DEFECTS):
            for number in range(per_kind):
                image, mask = picture(category, defect, number)
                name = f"{test}/{category}/test/{defect}/{number:03d}.png"
                pictures[name] = Image.fromarray(image)
                masks.append(mask)
                place = {"image": name, "category": category, "defect": defect}
                rows.append({**place, "label": int(defect != "good"), "sha256": f"{len(rows):04d}{test}"})
    return pd.DataFrame(rows), pictures, np.stack(masks)


def _manifest(workspace: Workspace, tests: list[pd.DataFrame]) -> None:
    trained = pd.DataFrame(
        {
            "image": [f"castings/housings/test/scratch/{number:03d}.png" for number in range(3)],
            "category": "housings",
            "defect": "scratch",
            "label": 1,
            "sha256": "elsewhere",
        }
    )
    table = pd.concat([*tests, trained], ignore_index=True)
    table = table.assign(dataset=table["image"].str.split("/").str[0], split="test", group=None)
    write_parquet(workspace.manifest, table)


def _evaluate(
    workspace: Workspace,
    settings: Settings,
    test: str,
    index: pd.DataFrame,
    pictures: dict[str, Image.Image],
    masks: np.ndarray,
) -> None:
    known = [
        None if (test, name) == NO_MASKS else m for name, m in zip(index["category"], masks, strict=True)
    ]
    for method in settings.tune.methods:
        for seed in settings.tune.seeds:
            cell = Cell(method, "castings", seed)
            held = HeldScores(*scored(masks, SKILL.get(method, 1.0), seed if method != "words" else 0))
            held.types = typed(index["defect"], seed) if method == "dapo" else None
            result = evaluate_stream(
                index,
                held,
                lambda rows: [known[row] for row in rows],
                # Only the shown prompts' pictures are looked at, and PNGs are what costs most here.
                settings.evaluate.model_copy(update={"overlays": 1 if method == "human_free" else 0}),
                Identity(method=method, seed=seed, train_set="castings", test_set=test),
                read_context(workspace, cell, test, index),
                list(DEFECTS) if method == "dapo" else None,
            )
            write_cell(result, workspace.evaluation(cell, test), pictures.__getitem__)


def _cards(workspace: Workspace, settings: Settings) -> None:
    backbone = {"name": "flawline-tiny", "weights": "backbones/flawline-tiny.safetensors", "image_size": 128}
    backbone |= {"weights_sha256": "3f" * 32, "seed": 0}
    for method in settings.tune.methods:
        learned = {"human_free": 16384, "dapo": 4096}.get(method, 0)
        for seed in settings.tune.seeds:
            cell = Cell(method, "castings", seed)
            card = {"method": method, "fidelity": "reconstruction", "seed": seed, "train_set": "castings"}
            card |= {"backbone": backbone, "learned": {"parameters": learned}, "train_sha256": ["ab" * 32]}
            card |= {"threshold": {"value": 0.42, "rule": "quantile"}, "words": {"trained": []}}
            card |= {"support": {"shots": 4, "images": {}} if method == "patch_memory" else None}
            write_json(workspace.prompts(cell) / "card.json", card)
            if not learned:
                write_text(workspace.tuning(cell) / "curves.csv", "stage,step,quantity,value\n")
                write_json(workspace.tuning(cell) / "tokens.json", {})
                continue
            lines, random = ["stage,step,quantity,value"], np.random.default_rng(seed)
            quantities = ("loss", "loss_image", "guidance cosine") if method == "human_free" else ("loss",)
            for step in range(0, 200, 5):
                for number, quantity in enumerate(quantities):
                    value = np.exp(-step / (60 + 20 * number)) + 0.2 + random.normal(0, 0.03)
                    lines.append(f"prompts,{step},{quantity},{value:.6f}")
            write_text(workspace.tuning(cell) / "curves.csv", "\n".join(lines) + "\n")
            words = ["flaw</w>", "torn</w>", "rust</w>", "<script>", "ñ</w>"]
            near = [[[word, 0.4 - k / 20] for k, word in enumerate(words)] for _ in range(16)]
            write_json(workspace.tuning(cell) / "tokens.json", {"normal": near, "abnormal": near})


def _checks(workspace: Workspace, settings: Settings, per_kind: int) -> None:
    counts = {"castings": {"housings": {"good_train": 24, "good_test": 6, "crack": 5}}}
    for test in settings.data.test:
        part = {"good_train": 12, "good_test": per_kind} | dict.fromkeys(DEFECTS, per_kind)
        counts[test] = {category: dict(part) for category in CATEGORIES[test]}
    offenders = [f"boards/chips: spot {number}" for number in range(7)]
    told = (
        ("decodable", "critical", "Every image decodes.", []),
        ("leak", "critical", "No image both trains and tests.", []),
        ("known", "warning", "Every defect has a name in vocabulary.yaml.", offenders),
    )
    expectations = [
        {"name": name, "severity": severity, "ok": not found, "what": what, "offenders": found}
        for name, severity, what, found in told
    ]
    summary = {"ok": True, "expectations": expectations, "counts": counts}
    write_json(workspace.checks / "summary.json", summary)


def _sheet(workspace: Workspace) -> None:
    sheet = Image.new("RGB", (8 * (SIDE * 2 + 8), 4 * (SIDE * 2 + 8)), "white")
    for place in range(32):
        image, _ = picture("castings", DEFECTS[place % 2], place)
        tile = Image.fromarray(image).resize((SIDE * 2, SIDE * 2))
        sheet.paste(tile, (place % 8 * (SIDE * 2 + 8), place // 8 * (SIDE * 2 + 8)))
    path = workspace.synth("castings") / "contact_sheet.png"
    path.parent.mkdir(parents=True)
    sheet.save(path)


def _ablation(workspace: Workspace) -> None:
    """As `flawline ablate` writes it; one variant that costs, one that cannot be told from the default."""
    lines = [
        "method,variant,train_set,test_set,metric,seed,value,spread,difference,difference_spread,ci_low,ci_high"
    ]
    told = (
        ("default", 0.9, 0.0, "", ""),
        ("no_laa", 0.85, -0.05, -0.08, -0.02),
        ("no_mpts", 0.9, 0.001, -0.01, 0.02),
    )
    for variant, value, difference, low, high in told:
        for target in ("boards", "fabrics", "mean"):
            lines.append(
                f"human_free,{variant},castings,{target},image_auroc,mean,{value},0.01,{difference},0.01,{low},{high}"
            )
    write_text(workspace.ablation_tables / "human_free.csv", "\n".join(lines) + "\n")


def _decisions(workspace: Workspace) -> None:
    def side(method: str, version: int | None, seed: int) -> dict[str, object]:
        named = {"version": version, "method": method, "train_set": "castings"}
        return named | {"seed": seed, "sha256": "ab" * 32}

    places = ("boards", "image_auroc"), ("fabrics", "image_auroc"), ("fabrics", "pixel_auroc")
    numbers = {"champion": 0.71, "challenger": 0.84, "difference": 0.13, "ci_low": -0.012, "ci_high": 0.2}
    tests: list[dict[str, object]] = [
        {"test_set": test, "metric": metric, **numbers, "passed": metric == "image_auroc"}
        for test, metric in (*places, ("mean", "image_auroc"))
    ]
    common = {"tests": tests, "margin": 0.02, "confidence": 0.95, "against": "baseline words"}
    first = {"champion": None, "challenger": side("human_free", None, 0), **common, "verdict": "promote"}
    reason = "better than the baseline words (+0.130 in mean image_auroc) and nowhere worse by 0.02"
    write_json(workspace.decisions / "0001-promote.json", {**first, "reason": reason, "results": "0" * 64})
    second = {"champion": side("human_free", 1, 0), "challenger": side("human_free", None, 2), **common}
    second |= {"verdict": "stay", "reason": "not shown to be better than the champion", "against": "champion"}
    write_json(workspace.decisions / "0002-stay.json", {**second, "results": sha256_file(workspace.metrics)})
