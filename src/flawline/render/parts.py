"""Parts: solid shapes given by signed distance, lit with a bevel, standing on a background with a shadow."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from flawline.render.fields import Array, Rng, blobs, fractal, grid, lit, over, rise

Distance = Callable[[Rng, Array, Array], Array]


def _box(y: Array, x: Array, h: float, w: float, corner: float) -> Array:
    dy, dx = np.abs(y) - h + corner, np.abs(x) - w + corner
    return np.hypot(np.maximum(dy, 0), np.maximum(dx, 0)) + np.minimum(np.maximum(dy, dx), 0) - corner


def _polygon(y: Array, x: Array, sides: int, radius: float) -> Array:
    angle = np.arctan2(y, x)
    step = 2 * np.pi / sides
    return np.hypot(y, x) * np.cos((angle + step / 2) % step - step / 2) - radius


def washer(rng: Rng, y: Array, x: Array) -> Array:
    r = np.hypot(y, x)
    outer = rng.uniform(0.55, 0.72)
    return np.maximum(r - outer, outer * rng.uniform(0.35, 0.55) - r)


def disc(rng: Rng, y: Array, x: Array) -> Array:
    return np.hypot(y, x) - rng.uniform(0.55, 0.75)


def hex_nut(rng: Rng, y: Array, x: Array) -> Array:
    return np.maximum(_polygon(y, x, 6, rng.uniform(0.52, 0.62)), 0.30 - np.hypot(y, x))


def gear(rng: Rng, y: Array, x: Array) -> Array:
    teeth = 16
    r, angle = np.hypot(y, x), np.arctan2(y, x)
    profile = np.clip(np.sin(angle * teeth) * 2.2, -1, 1)
    body = r - (0.66 + 0.055 * profile)
    holes = [0.15 - r]
    for k in range(5):
        a = 2 * np.pi * k / 5
        holes.append(0.11 - np.hypot(y - 0.38 * np.sin(a), x - 0.38 * np.cos(a)))
    return np.maximum.reduce([body, *holes])


def bracket(rng: Rng, y: Array, x: Array) -> Array:
    body = np.minimum(_box(y + 0.30, x, 0.26, 0.72, 0.10), _box(y - 0.12, x + 0.42, 0.62, 0.28, 0.10))
    holes = [0.105 - np.hypot(y + 0.30, x - cx) for cx in (0.02, 0.46)]
    holes += [0.105 - np.hypot(y - cy, x + 0.42) for cy in (-0.28, 0.12, 0.50)]
    return np.maximum.reduce([body, *holes])


def plate(rng: Rng, y: Array, x: Array) -> Array:
    h, w = rng.uniform(0.45, 0.7), rng.uniform(0.55, 0.78)
    body = _box(y, x, h, w, 0.08)
    corners = [0.07 - np.hypot(np.abs(y) - h + 0.15, np.abs(x) - w + 0.15)]
    return np.maximum.reduce([body, *corners])


def lid(rng: Rng, y: Array, x: Array) -> Array:
    return np.maximum(
        _box(y, x, 0.72, 0.72, 0.24), np.float32(0.075) - np.hypot(np.abs(y) - 0.52, np.abs(x) - 0.52)
    )


def tube(rng: Rng, y: Array, x: Array) -> Array:
    return _box(y, x, rng.uniform(0.2, 0.32), 0.8, 0.04)


def pill(rng: Rng, y: Array, x: Array) -> Array:
    return _box(y, x, 0.30, 0.66, 0.299)


def bolt(rng: Rng, y: Array, x: Array) -> Array:
    thread = 0.02 * np.sin(x * 60) * (x > -0.1)
    return np.minimum(_box(y, x - 0.15, 0.15, 0.6, 0.02) + thread, _box(y, x + 0.55, 0.32, 0.16, 0.05))


def cap(rng: Rng, y: Array, x: Array) -> Array:
    return np.hypot(y, x) - (0.62 + 0.02 * np.sin(np.arctan2(y, x) * 21))


#: every part by the words a caption calls it
PARTS: dict[str, Distance] = {
    "washer": washer,
    "disc": disc,
    "nut": hex_nut,
    "gear": gear,
    "bracket": bracket,
    "plate": plate,
    "housing": lid,
    "tube": tube,
    "pill": pill,
    "bolt": bolt,
    "bottle cap": cap,
}

BACKGROUNDS = (
    (0.80, 0.80, 0.79),
    (0.20, 0.21, 0.23),
    (0.45, 0.47, 0.50),
    (0.30, 0.36, 0.42),
    (0.62, 0.58, 0.52),
)


@dataclass(frozen=True)
class Placed:
    """A rendered part: picture [n, n, 3] in 0..1 and the solid's mask [n, n] (bool)."""

    picture: Array
    solid: Array


def backdrop(rng: Rng, n: int, rgb: tuple[float, float, float]) -> Array:
    """A plain, slightly grained background such as a conveyor or a tray."""
    value = 1 + 0.04 * blobs(rng, n, 0.5) + 0.015 * fractal(rng, n, 0.3)
    return (np.asarray(rgb, np.float32) * value[..., None]).astype(np.float32)


def place(
    rng: Rng, n: int, distance: Distance, material: Array, background: Array, turn: float, shift: float = 0.05
) -> Placed:
    """Put a part of `material` on `background`, turned by `turn` radians and moved by up to `shift`."""
    y, x = grid(n)
    moved = rng.uniform(-shift, shift, 2)
    size = rng.uniform(0.95, 1.1)
    y, x = (y - moved[0]) * size, (x - moved[1]) * size
    c, s = np.cos(turn), np.sin(turn)
    d = distance(rng, c * y - s * x, s * y + c * x).astype(np.float32)
    alpha = rise(d, 2.5 / n)
    light = rng.uniform(3.6, 4.4)
    bevel = rise(d + 0.03, 0.07)
    shade = lit(ndimage.gaussian_filter(bevel, 0.6) * n / 10, light, 0.35)
    shadow = ndimage.gaussian_filter(alpha, 0.02 * n)
    shadow = np.roll(shadow, (int(0.025 * n), int(0.02 * n)), (0, 1))
    ground = background * (1 - 0.55 * shadow[..., None])
    return Placed(over(ground, material * shade[..., None], alpha), alpha > 0.5)
