"""A made workspace as the stages would leave it: pictures of plates with scratches and spots, made-up scores.

The evaluation folders and the joined table come from the real code, so that the page is tested on what it
will meet; only images, scores, cards and curves are invented.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from flawline.evaluate.cell import Identity, evaluate_cell, write_cell
from flawline.evaluate.compare import compare
from flawline.evaluate.tables import write_metrics
from flawline.files import sha256_file, write_json, write_text
from flawline.report.figures import Picture, plot
from flawline.settings import EvaluateSettings, Settings, load_settings
from flawline.workspace import Cell, Workspace

SIDE = 64
CATEGORIES = {"boards": ("chips", "connectors", "pads"), "fabrics": ("denim", "felt")}
DEFECTS = ("scratch", "spot")
SKILL = {"words": 0.9, "human_free": 1.9}


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


def build(root: Path, repository: Path, per_kind: int = 4, overlays: int = 1) -> tuple[Workspace, Settings]:
    """Fill `root` with everything the report reads."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(repository / "params.yaml", root / "params.yaml")
    workspace, settings = Workspace(root), load_settings(root / "params.yaml")
    evaluate = EvaluateSettings(bootstrap=100, bins=256, overlays=overlays)
    for test in settings.data.test:
        rows, pictures, masks = [], {}, []
        for category in CATEGORIES[test]:
            for defect in ("good", *DEFECTS):
                for number in range(per_kind):
                    image, mask = picture(category, defect, number)
                    name = f"{test}/{category}/test/{defect}/{number:03d}.png"
                    pictures[name] = Image.fromarray(image)
                    masks.append(mask)
                    rows.append(
                        {
                            "image": name,
                            "category": category,
                            "defect": defect,
                            "label": int(defect != "good"),
                        }
                    )
        index, stack = pd.DataFrame(rows), np.stack(masks)
        for method in settings.tune.methods:
            for seed in settings.tune.seeds:
                noise = seed if method != "words" else 0
                scores, maps = scored(stack, SKILL[method], noise)
                cell = Cell(method, "castings", seed)
                identity = Identity(method=method, seed=seed, train_set="castings", test_set=test)
                result = evaluate_cell(index, scores, maps, stack, evaluate, identity)
                write_cell(result, workspace.evaluation(cell, test), pictures.__getitem__)
    write_metrics(workspace.metrics, compare(workspace, settings))
    _tuning(workspace, settings)
    _checks(workspace, settings, per_kind)
    _sheet(workspace)
    _decisions(workspace)
    return workspace, settings


def _tuning(workspace: Workspace, settings: Settings) -> None:
    for method in settings.tune.methods:
        learned = 16384 if method == "human_free" else 0
        for seed in settings.tune.seeds:
            cell = Cell(method, "castings", seed)
            backbone = {
                "name": "flawline-tiny",
                "weights": "backbones/flawline-tiny.safetensors",
                "image_size": 128,
            }
            backbone |= {"weights_sha256": "3f" * 32, "seed": 0}
            card = {"method": method, "fidelity": "reconstruction", "seed": seed, "train_set": "castings"}
            card |= {"backbone": backbone, "learned": {"parameters": learned}, "train_sha256": []}
            write_json(workspace.prompts(cell) / "card.json", card)
            if not learned:
                write_text(workspace.tuning(cell) / "curves.csv", "stage,step,quantity,value\n")
                write_json(workspace.tuning(cell) / "tokens.json", {})
                continue
            lines, random = ["stage,step,quantity,value"], np.random.default_rng(seed)
            for step in range(0, 200, 5):
                for number, quantity in enumerate(("loss", "loss_image", "guidance cosine")):
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
    expectations = [
        _expectation("decodable", "critical", "Every image decodes.", []),
        _expectation("leak", "critical", "No image both trains and tests.", []),
        _expectation("known", "warning", "Every defect has a name in vocabulary.yaml.", offenders),
    ]
    write_json(
        workspace.checks / "summary.json", {"ok": True, "expectations": expectations, "counts": counts}
    )


def _expectation(name: str, severity: str, what: str, offenders: list[str]) -> dict[str, object]:
    return {"name": name, "severity": severity, "ok": not offenders, "what": what, "offenders": offenders}


def _sheet(workspace: Workspace) -> None:
    sheet = Image.new("RGB", (8 * (SIDE * 2 + 8), 4 * (SIDE * 2 + 8)), "white")
    for place in range(32):
        image, _ = picture("castings", DEFECTS[place % 2], place)
        tile = Image.fromarray(image).resize((SIDE * 2, SIDE * 2))
        sheet.paste(tile, (place % 8 * (SIDE * 2 + 8), place // 8 * (SIDE * 2 + 8)))
    path = workspace.synth("castings") / "contact_sheet.png"
    path.parent.mkdir(parents=True)
    sheet.save(path)


def _decisions(workspace: Workspace) -> None:
    def side(method: str, version: int | None, seed: int) -> dict[str, object]:
        return {
            "version": version,
            "method": method,
            "train_set": "castings",
            "seed": seed,
            "sha256": "ab" * 32,
        }

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


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    root = tmp_path_factory.mktemp("report") / "made"
    build(root, repository)
    return root


@pytest.fixture
def made(_built: Path, tmp_path: Path) -> tuple[Workspace, Settings]:
    """A fresh copy of the made workspace: a test may break it."""
    root = tmp_path / "wörk space"
    shutil.copytree(_built, root)
    return Workspace(root), load_settings(root / "params.yaml")


_DRAWN: dict[str, Picture] = {}


@pytest.fixture
def real_plots() -> None:
    """Asked for by a test that must see every plot drawn anew."""


@pytest.fixture(autouse=True)
def _draw_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is nearly all of the page's time: the same plot is drawn once for all tests."""
    if "real_plots" in request.fixturenames:
        return

    def remembered(*given: object, **named: object) -> Picture:
        key = repr((given, named))
        if key not in _DRAWN:
            _DRAWN[key] = plot(*given, **named)
        return _DRAWN[key]

    monkeypatch.setattr("flawline.report.curves.plot", remembered)
