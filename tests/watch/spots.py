"""A small plant for the watch's tests: grey plates with coloured spots, and a detector that sees every spot.

Only the scores are made up; the backbone is a real one with random weights, so that crops of one look are alike.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from flawline.clip.backbone import Backbone, load_backbone
from flawline.detector import Result
from flawline.determinism import derived_seed
from flawline.settings import Settings, load_settings, parse_settings
from flawline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SIDE = 96
#: colour and radius of each look
LOOKS = {"scratch": ((250, 250, 60), 5), "burn": ((130, 10, 5), 11), "drop": ((20, 60, 250), 11)}


def plate(name: str, defect: str = "good", tint: int = 150) -> Image.Image:
    """A plate [SIDE, SIDE] whose grain and spot follow from its name."""
    random = np.random.default_rng(derived_seed(name, defect))
    grain = gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), 1) * 14
    pixels = np.repeat((tint + grain)[..., None], 3, axis=2)
    if defect != "good":
        colour, radius = LOOKS[defect]
        row, column = random.integers(28, SIDE - 28, 2)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        pixels[np.hypot(rows - row, columns - column) < radius] = colour
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(path: Path, name: str, defect: str = "good", tint: int = 150) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    plate(name, defect, tint).save(path)
    return path


def make_plant(root: Path, good: int = 16, bad: int = 8) -> Workspace:
    """A workspace with the data set `plates`: category `gear`, good ones and the type `scratch`, without masks."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (root / "vocabulary.yaml").write_text(
        "# words\ndefects:\n  scratch: scratch  # thin\n  burn: burn mark\n"
    )
    folder = root / "data" / "plates" / "gear"
    for number in range(good):
        save(folder / "train" / "good" / f"{number}.png", f"train {number}")
        save(folder / "test" / "good" / f"{number}.png", f"test {number}")
    for number in range(bad):
        save(folder / "test" / "scratch" / f"{number}.png", f"known {number}", "scratch")
    counts = {"gear": {"test": {"good": good, "scratch": bad}, "train": {"good": good}}}
    card = {"source": "made", "layout": "mvtec", "licence": None, "counts": counts, "sha256": "0" * 64}
    (root / "data" / "plates" / "dataset.json").write_text(json.dumps(card))
    (root / ".state").mkdir()
    return Workspace(root)


def settings_of(workspace: Workspace, **watch: object) -> Settings:
    raw = load_settings(workspace.params).model_dump()
    raw["data"] = {**raw["data"], "train": ["plates"], "test": ["other"]}
    raw["features"]["batch"] = 8
    raw["watch"] = {**raw["watch"], "drift_least": 8, "distance": 0.02, "like": 0.99, **watch}
    raw["backbone"] = {"name": "flawline-tiny", "weights": "none", "image_size": 64, "seed": 1}
    return parse_settings(raw)


class Spots:
    """In the place of a detector: the score is how far the worst place is from grey; `types` where asked to."""

    def __init__(self, backbone: Backbone, types: dict[str, float] | None = None) -> None:
        self.method = SimpleNamespace(backbone=backbone, name="spots", knows_types=bool(types))
        self.threshold = 0.5
        self.types = types or {}
        self.seen = 0
        self.asked: list[str] = []

    def score(self, images: list[Image.Image], more: object = ()) -> list[Result]:
        self.seen += len(images)
        self.asked = list(more)  # type: ignore[call-overload]
        return [self._one(np.asarray(image, dtype=np.float64)) for image in images]

    def _one(self, pixels: np.ndarray) -> Result:
        colour = gaussian_filter(np.ptp(pixels, axis=2) / 255, 2)
        score = min(1.0, 0.1 + float(colour.max()) * 1.6 + float(pixels.mean()) / 5000)
        bad = score > self.threshold
        return Result(score, self.threshold, bad, "anomaly" if bad else "good", colour, self.types)


def backbone_of(settings: Settings, root: Path) -> Backbone:
    return load_backbone(settings.backbone, root)
