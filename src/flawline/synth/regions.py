"""Where an anomaly sits: random shapes inside the object, as soft coverage.

A region is `Region(cover, mask)`: cover float32 [H, W] in 0..1 says how much of a pixel the shape covers
(soft at its edge, 0 outside the mask), mask bool [H, W] is the hard shape.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from flawline.synth.shapes import Rng, bounds, grain, perlin_noise, smooth_noise

# A region below this share of the picture says nothing to a patch; a scratch is thin and may be smaller.
LEAST_SHARE = {"patch": 0.004, "scratch": 0.0012, "perlin": 0.002, "oagm": 0.002}
MOST_SHARE = 0.25  # of the picture, for a Perlin region: its level says nothing of its area
PERLIN_LEVEL = 0.5
_KINDS = ("blob", "blob", "blob", "ellipse", "box")
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Region:
    """See the module; `kind` is `blob`, `ellipse`, `box`, `scratch`, `perlin`, `mixed` or `object`."""

    cover: np.ndarray
    mask: np.ndarray
    kind: str


def whole_object(inside: np.ndarray) -> Region:
    """The whole object."""
    return Region(feathered(inside, grain(inside.shape)), inside.copy(), "object")


def patch(inside: np.ndarray, share: float, rng: Rng, kinds: tuple[str, ...] = _KINDS) -> Region | None:
    """A compact shape that covers `share` of the object, at a random place in it; None where it came out too
    small.

    Args:
        inside: the object, bool [H, W].
        share: of the object's area.
        rng: the source of chance.
        kinds: `blob`, `ellipse` or `box`, one of which is drawn.
    """
    area = share * float(inside.sum())
    kind = str(rng.choice(list(kinds)))
    count = 1 if kind == "blob" or rng.random() < 0.7 else int(rng.integers(2, 4))
    mask = np.zeros_like(inside)
    for _ in range(count):
        shape = _blob(inside, area, rng) if kind == "blob" else _stamp(inside, area / count, kind, rng)
        mask |= shape
    return _checked(feathered(mask, 1.5 * grain(inside.shape)), mask, kind, area, "patch")


def scratch(inside: np.ndarray, rng: Rng) -> Region | None:
    """One or two thin bent lines across the object; None where hardly any of it lies inside."""
    rows, columns = bounds(inside)
    extent = float(np.hypot(rows.stop - rows.start, columns.stop - columns.start))
    unit = grain(inside.shape)
    cover = np.zeros(inside.shape, dtype=np.float32)
    for _ in range(1 if rng.random() < 0.7 else 2):
        length, width = extent * rng.uniform(0.12, 0.5), unit * rng.uniform(1.0, 3.2)
        cover = np.maximum(cover, _line(inside, length, width, rng))
    mask = (cover > 0.35) & inside
    return _checked(np.where(mask, cover, 0.0).astype(np.float32), mask, "scratch", 0.0, "scratch")


def perlin(inside: np.ndarray, rng: Rng) -> Region | None:
    """Where a Perlin field is above 0.5, cut to the object; None below 0.2 % or above 25 % of the picture."""
    mask = (perlin_noise(inside.shape, rng) > PERLIN_LEVEL) & inside
    if mask.sum() > MOST_SHARE * mask.size:
        return None
    return _checked(blurred(mask), mask, "perlin", 0.0, "perlin")


def oagm_object(inside: np.ndarray) -> Region:
    """OAGM read literally: the noise lies on all of the object (`oagm_full`)."""
    return Region(blurred(inside), inside.copy(), "object")


def oagm_region(inside: np.ndarray, rng: Rng) -> Region | None:
    """A random part of the object (`oagm_region`): Perlin in every second case, else one to three ellipses and
    boxes that cover 1 to 20 % of the object together; None below 0.2 % of the picture."""
    if rng.random() < 0.5:
        return perlin(inside, rng)
    count = int(rng.integers(1, 4))
    area = rng.uniform(0.01, 0.2) * float(inside.sum()) / count
    mask = np.zeros_like(inside)
    for _ in range(count):
        mask |= _stamp(inside, area, "ellipse" if rng.random() < 0.5 else "box", rng)
    return _checked(blurred(mask), mask, "mixed", 0.0, "oagm")


def blurred(mask: np.ndarray, width: int = 3) -> np.ndarray:
    """Coverage of a `width`-pixel box blur, kept inside the mask (outside nothing may change): float32 [H, W]."""
    cover = ndimage.uniform_filter(mask.astype(np.float32), width, mode="nearest")
    return np.where(mask, cover, 0.0).astype(np.float32)


def feathered(mask: np.ndarray, width: float) -> np.ndarray:
    """Coverage that rises from the mask's edge inwards over `width` pixels: float32 [H, W], 0 outside."""
    padded = np.pad(mask, 1, mode="edge")  # the picture's own edge is no edge of the shape
    depth = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
    return np.clip(depth / (width + 0.5), 0.0, 1.0).astype(np.float32)


def _checked(cover: np.ndarray, mask: np.ndarray, kind: str, area: float, size: str) -> Region | None:
    least = max(LEAST_SHARE[size] * mask.size, 0.3 * area)
    return Region(cover, mask, kind) if mask.sum() >= least else None


def _centre(inside: np.ndarray, rng: Rng) -> tuple[float, float]:
    places = np.flatnonzero(inside)
    row, column = np.unravel_index(int(rng.choice(places)), inside.shape)
    return float(row), float(column)


def _blob(inside: np.ndarray, area: float, rng: Rng) -> np.ndarray:
    """The `area` pixels near a centre where a smooth random field is highest, their rims smoothed."""
    radius = float(np.sqrt(area / np.pi))
    row, column = _centre(inside, rng)
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 2.2)
    along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
    across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    away = (along / stretch) ** 2 + (across * stretch) ** 2
    rough = smooth_noise(inside.shape, max(2.0, radius * rng.uniform(0.25, 0.7)), rng)
    height = np.where(inside, rough * rng.uniform(0.4, 1.0) - away / max(radius, 1.0) ** 2, -np.inf)
    count = max(1, min(round(area), int(inside.sum())))
    level = np.partition(height, -count, axis=None)[-count]
    shape = ndimage.binary_opening(height >= level, iterations=max(1, round(grain(inside.shape))))
    return np.asarray(shape & inside)


def _stamp(inside: np.ndarray, area: float, kind: str, rng: Rng) -> np.ndarray:
    """A rotated ellipse or rectangle of this area around a place in the object, cut to the object."""
    row, column = _centre(inside, rng)
    aspect, angle = float(np.exp(rng.uniform(-0.9, 0.9))), rng.uniform(0, np.pi)
    factor = np.pi if kind == "ellipse" else 4.0
    half = np.sqrt(area / factor)
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    along = ((x - column) * np.cos(angle) + (y - row) * np.sin(angle)) / (half * np.sqrt(aspect))
    across = ((y - row) * np.cos(angle) - (x - column) * np.sin(angle)) / (half / np.sqrt(aspect))
    shape = along**2 + across**2 <= 1 if kind == "ellipse" else np.maximum(np.abs(along), np.abs(across)) <= 1
    return np.asarray(shape & inside)


def _line(inside: np.ndarray, length: float, width: float, rng: Rng) -> np.ndarray:
    """Coverage of one line from a place in the object: smooth as a scratch or jagged as a crack, tapered.

    Drawn larger and reduced, for smooth edges.
    """
    jagged = rng.random() < 0.35
    steps = int(rng.integers(9, 16)) if jagged else int(rng.integers(14, 24))
    main = rng.uniform(0, 2 * np.pi)
    if jagged:
        headings = main + rng.normal(0, 0.6, size=steps)
    else:
        turn, wobble = rng.uniform(-0.06, 0.06), rng.uniform(0.0, 0.08)
        headings = main + np.cumsum(rng.normal(turn, wobble, size=steps))
    strides = length / steps * rng.uniform(0.7, 1.3, size=steps)
    row, column = _centre(inside, rng)
    x = column + np.concatenate([[0.0], np.cumsum(np.cos(headings) * strides)])
    y = row + np.concatenate([[0.0], np.cumsum(np.sin(headings) * strides)])
    taper = np.sin(np.linspace(0.12, 0.88, steps) * np.pi) ** 0.5 * rng.uniform(0.8, 1.2, size=steps)

    scale = _SUPERSAMPLING
    canvas = Image.new("L", (inside.shape[1] * scale, inside.shape[0] * scale))
    draw = ImageDraw.Draw(canvas)
    for step in range(steps):
        ends = [(x[step] * scale, y[step] * scale), (x[step + 1] * scale, y[step + 1] * scale)]
        thick = max(2.0, width * scale * taper[step])
        draw.line(ends, fill=255, width=round(thick))
        for end_x, end_y in ends:
            half = thick / 2
            draw.ellipse((end_x - half, end_y - half, end_x + half, end_y + half), fill=255)
    small = canvas.resize((inside.shape[1], inside.shape[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0
