"""Image-caption pairs that the tiny CLIP is trained on: one scene, once good and once with a defect.

Some materials, parts and defects of the sample data never occur here, so that the demonstration shows transfer
and not memory: see `HELD_OUT`.
"""

from dataclasses import dataclass

import numpy as np

from flawline.render.defects import DEFECTS
from flawline.render.fields import Array, Rng
from flawline.render.parts import BACKGROUNDS, PARTS, backdrop, place
from flawline.render.surfaces import SURFACES

HELD_OUT = {
    "materials": ("leather", "ceramic"),
    "parts": ("gear",),
    "defects": ("bubble", "wrinkle"),
}
MATERIALS = tuple(sorted(set(SURFACES) - set(HELD_OUT["materials"])))
SHAPES = tuple(sorted(set(PARTS) - set(HELD_OUT["parts"])))
FLAWS = tuple(sorted(set(DEFECTS) - set(HELD_OUT["defects"])))

_ADJECTIVES = {
    "scratch": "scratched",
    "crack": "cracked",
    "dent": "dented",
    "stain": "stained",
    "rust": "rusty",
    "burn mark": "burnt",
    "discoloration": "discolored",
    "chip": "chipped",
    "contamination": "dirty",
    "cut": "cut",
}
_UNCOUNTED = ("rust", "contamination", "glue", "discoloration")
_VIEWS = (
    "",
    "a photo of ",
    "a close-up photo of ",
    "a bright photo of ",
    "a dark photo of ",
    "a cropped photo of ",
)
# Hand-written inspection words are rare on purpose: captions in the wild name things, they do not grade them.
_GENERIC_SHARE = 0.08
_OBJECT_SHARE = 0.15


@dataclass(frozen=True)
class Pair:
    """Two pictures uint8 [n, n, 3] of one scene, and what is in them (no masks)."""

    good: Array
    flawed: Array
    material: str
    part: str
    defect: str


def make_pair(seed: int, n: int) -> Pair:
    """Render scene number `seed` at `n` pixels, good and with one defect."""
    rng = np.random.default_rng(seed)
    material = MATERIALS[rng.integers(len(MATERIALS))]
    texture = rng.random() < 0.5
    surface = SURFACES[material](rng, n)
    part = "" if texture else SHAPES[rng.integers(len(SHAPES))]
    if texture:
        picture, solid = surface, np.ones((n, n), bool)
    else:
        ground = backdrop(rng, n, BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
        placed = place(rng, n, PARTS[part], surface, ground, rng.uniform(-np.pi, np.pi), 0.15)
        picture, solid = placed.picture, placed.solid
    defect = FLAWS[rng.integers(len(FLAWS))]
    flawed, _ = DEFECTS[defect](rng, np.clip(picture, 0, 1).astype(np.float32), solid)
    return Pair(_bytes(picture), _bytes(flawed), material, part, defect)


def _bytes(picture: Array) -> Array:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(rng: Rng, material: str, part: str, defect: str) -> str:
    """A sentence for one picture; `defect` is empty for a good one."""
    if rng.random() < _OBJECT_SHARE:
        bare, subject = "object", "an object"
    elif part:
        bare = f"{material} {part}" if rng.random() < 0.6 else part
        subject = _article(bare)
    else:
        bare = material if rng.random() < 0.6 else f"{material} surface"
        subject = bare if bare == material else _article(bare)
    view = _VIEWS[rng.integers(len(_VIEWS))]
    generic = rng.random() < _GENERIC_SHARE
    if not defect:
        return view + (_graded_good(rng, bare, subject) if generic else subject)
    if generic:
        return view + _graded_bad(rng, bare, subject)
    flaw = defect if defect in _UNCOUNTED else _article(defect)
    choice = rng.random()
    if choice < 0.12:
        return view + flaw
    if choice < 0.35 and defect in _ADJECTIVES:
        return view + _article(f"{_ADJECTIVES[defect]} {bare}")
    return f"{view}{subject} with {flaw}"


def _graded_good(rng: Rng, bare: str, subject: str) -> str:
    options = (_article(f"flawless {bare}"), f"{subject} without defect", _article(f"perfect {bare}"))
    return options[rng.integers(len(options))]


def _graded_bad(rng: Rng, bare: str, subject: str) -> str:
    options = (_article(f"damaged {bare}"), f"{subject} with a defect", f"{subject} with a flaw")
    return options[rng.integers(len(options))]
