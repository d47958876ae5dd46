"""The sample data: three rendered data sets in MVTec layout, small enough to stand in the repository.

`castings` trains the prompts of the demonstration; `boards` and `fabrics` are never trained on. Some defect types
(missing_part, bubble, hole, thread, wrinkle) stand only in the latter two, and bubble and wrinkle, like leather,
ceramic and the gear, were never seen by the embedded backbone either (see flawline.render.pairs.HELD_OUT).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from flawline.determinism import derived_seed
from flawline.files import atomic_folder
from flawline.progress import track
from flawline.render.circuits import LAYOUT, draw_board
from flawline.render.defects import DEFECTS
from flawline.render.fields import Array, Rng
from flawline.render.parts import PARTS, Placed, backdrop, place
from flawline.render.surfaces import SURFACES

SIDE = 192
GOOD_TRAIN, GOOD_TEST, PER_DEFECT = 24, 16, 7
_JPEG_QUALITY = 88
_Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Category:
    """How one category looks and which defects it has (folder name → words in flawline.render.defects)."""

    draw: Callable[[Rng, int], Placed]
    defects: tuple[str, ...]


def _toned(picture: Array, tone: _Colour, rng: Rng) -> Array:
    """The picture with its mean colour moved to `tone`: a product keeps its colour from image to image."""
    wanted = np.asarray(tone, np.float32) * rng.uniform(0.94, 1.06)
    return np.clip(picture * (wanted / picture.mean((0, 1))), 0, 1)


def _texture(material: str, tone: _Colour) -> Callable[[Rng, int], Placed]:
    def draw(rng: Rng, n: int) -> Placed:
        return Placed(_toned(SURFACES[material](rng, n), tone, rng), np.ones((n, n), bool))

    return draw


def _part(
    part: str, material: str, tone: _Colour, ground: _Colour, turn: float
) -> Callable[[Rng, int], Placed]:
    def draw(rng: Rng, n: int) -> Placed:
        surface = _toned(SURFACES[material](rng, n), tone, rng)
        return place(rng, n, PARTS[part], surface, backdrop(rng, n, ground), rng.uniform(-turn, turn), 0.03)

    return draw


def _board(rng: Rng, n: int) -> Placed:
    return draw_board(rng, n, backdrop(rng, n, (0.72, 0.72, 0.74)), rng.uniform(-0.03, 0.03))[0]


SETS: dict[str, dict[str, Category]] = {
    "castings": {
        "bracket": Category(
            _part("bracket", "brushed steel", (0.58, 0.60, 0.63), (0.25, 0.27, 0.31), 0.08),
            ("scratch", "rust", "crack", "stain"),
        ),
        "bushing": Category(
            _part("washer", "copper", (0.72, 0.46, 0.34), (0.36, 0.38, 0.40), 3.14),
            ("scratch", "crack", "stain"),
        ),
        "cast_plate": Category(_texture("cast iron", (0.36, 0.37, 0.39)), ("scratch", "rust", "crack")),
        "flange": Category(
            _part("plate", "brass", (0.74, 0.61, 0.34), (0.22, 0.25, 0.30), 0.1),
            ("scratch", "stain", "chip"),
        ),
        "gear": Category(
            _part("gear", "cast iron", (0.40, 0.41, 0.43), (0.70, 0.69, 0.66), 3.14),
            ("scratch", "rust", "chip"),
        ),
        "housing": Category(
            _part("housing", "cast aluminium", (0.66, 0.67, 0.68), (0.20, 0.22, 0.26), 0.06),
            ("scratch", "crack", "stain"),
        ),
    },
    "boards": {
        "pcb": Category(_board, ("scratch", "missing_part", "stain")),
        "ceramic_tile": Category(_texture("ceramic", (0.80, 0.78, 0.72)), ("crack", "chip", "scratch")),
        "coated_panel": Category(
            _texture("painted metal", (0.46, 0.55, 0.58)), ("scratch", "rust", "bubble")
        ),
    },
    "fabrics": {
        "leather": Category(_texture("leather", (0.42, 0.37, 0.33)), ("scratch", "hole", "wrinkle", "stain")),
        "mesh": Category(_texture("wire mesh", (0.46, 0.47, 0.49)), ("hole", "rust", "thread")),
        "woven_cloth": Category(_texture("woven cloth", (0.66, 0.65, 0.58)), ("hole", "thread", "stain")),
    },
}


def draw_good(category: Category, seed: int) -> Placed:
    """One good image."""
    return category.draw(np.random.default_rng(seed), SIDE)


def draw_flawed(category: Category, defect: str, seed: int) -> tuple[Array, Array]:
    """One defective image [SIDE, SIDE, 3] and its mask [SIDE, SIDE] (bool), never an empty one."""
    for attempt in range(20):
        rng = np.random.default_rng(derived_seed(seed, attempt))
        if defect == "missing_part":
            ground = backdrop(rng, SIDE, (0.72, 0.72, 0.74))
            placed, mask = draw_board(
                rng, SIDE, ground, rng.uniform(-0.03, 0.03), int(rng.integers(len(LAYOUT)))
            )
            return placed.picture, mask
        placed = category.draw(rng, SIDE)
        picture, mask = DEFECTS[defect](rng, np.clip(placed.picture, 0, 1).astype(np.float32), placed.solid)
        if mask.mean() > 0.002:
            return picture, mask
    raise RuntimeError(f"no visible {defect} in 20 attempts")


def run(out: Path, seed: int = 0) -> None:
    """Write all sample data sets below `out` (one folder each, replaced whole)."""
    for name, categories in track(sorted(SETS.items()), "sample data sets"):
        with atomic_folder(Path(out) / name) as folder:
            for category, look in sorted(categories.items()):
                _write_category(folder / category, look, f"{seed}/{name}/{category}")


def _write_category(folder: Path, look: Category, key: str) -> None:
    for part, count in (("train", GOOD_TRAIN), ("test", GOOD_TEST)):
        for k in range(count):
            picture = draw_good(look, derived_seed(key, part, "good", k)).picture
            _save(folder / part / "good" / f"{k:03d}.jpg", picture)
    for defect in look.defects:
        for k in range(PER_DEFECT):
            picture, mask = draw_flawed(look, defect, derived_seed(key, "test", defect, k))
            _save(folder / "test" / defect / f"{k:03d}.jpg", picture)
            _save(folder / "ground_truth" / defect / f"{k:03d}_mask.png", mask)


def _save(path: Path, picture: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
    if path.suffix == ".jpg":
        image.save(path, quality=_JPEG_QUALITY)
    else:
        image.save(path, optimize=True)
