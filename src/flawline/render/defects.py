"""Defects: each changes a picture inside a solid and says exactly where.

A defect is a function (rng, picture [n, n, 3], solid [n, n] bool) -> (picture, mask [n, n] bool).
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from flawline.render.fields import Array, Rng, blobs, fractal, grid, lit, over, rise

Defect = Callable[[Rng, Array, Array], tuple[Array, Array]]


def _spot(rng: Rng, solid: Array, margin: float = 0.06) -> tuple[float, float]:
    """A random point (y, x) in -1..1 well inside the solid."""
    n = len(solid)
    inner = ndimage.binary_erosion(solid, iterations=max(1, int(margin * n)))
    where = np.argwhere(inner if inner.any() else solid)
    y, x = where[rng.integers(len(where))]
    return (y + 0.5) / n * 2 - 1, (x + 0.5) / n * 2 - 1


def _edge(rng: Rng, solid: Array) -> tuple[float, float]:
    """A random point on the solid's outline, or on the picture's centre area when it has none."""
    rim = solid & ~ndimage.binary_erosion(solid, iterations=2, border_value=1)
    if rim.sum() < 8:
        return _spot(rng, solid)
    where = np.argwhere(rim)
    y, x = where[rng.integers(len(where))]
    n = len(solid)
    return (y + 0.5) / n * 2 - 1, (x + 0.5) / n * 2 - 1


def _path(rng: Rng, start: tuple[float, float], length: float, bend: float, steps: int = 28) -> Array:
    """A wandering poly-line [steps, 2] of (y, x) through `start`."""
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    step = length / steps * np.stack([np.sin(angle), np.cos(angle)], 1)
    points = np.cumsum(step, 0)
    return (points - points.mean(0) + np.asarray(start)).astype(np.float32)


def _distance_to(points: Array, n: int) -> Array:
    """Distance of every pixel to a poly-line, in -1..1 units."""
    y, x = grid(n)
    best = np.full((n, n), 9.0, np.float32)
    low, high = points.min(0) - 0.3, points.max(0) + 0.3
    window = (y > low[0]) & (y < high[0]) & (x > low[1]) & (x < high[1])
    p = np.stack([y[window], x[window]], -1)[:, None]
    a, b = points[None, :-1], points[None, 1:]
    along = b - a
    t = np.clip(((p - a) * along).sum(-1) / ((along**2).sum(-1) + 1e-9), 0, 1)
    best[window] = np.sqrt(((p - a - t[..., None] * along) ** 2).sum(-1)).min(1)
    return best


def _blob(rng: Rng, n: int, centre: tuple[float, float], radius: float, rough: float) -> Array:
    """Signed distance of a lumpy round shape."""
    y, x = grid(n)
    return np.hypot(y - centre[0], x - centre[1]) - radius * (
        1 + rough * blobs(rng, n, max(radius * 0.5, 0.03))
    )


def _done(picture: Array, alpha: Array, solid: Array, floor: float = 0.25) -> tuple[Array, Array]:
    return np.clip(picture, 0, 1), (alpha > floor) & solid


def scratch(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    alpha = np.zeros((n, n), np.float32)
    centre = _spot(rng, solid)
    for _ in range(rng.integers(1, 4)):
        start = (centre[0] + rng.normal(0, 0.06), centre[1] + rng.normal(0, 0.06))
        line = _distance_to(_path(rng, start, rng.uniform(0.4, 0.9), 0.03), n)
        alpha = np.maximum(alpha, rise(line - rng.uniform(0.010, 0.020), 0.022))
    alpha = alpha * solid
    tone = 0.97 if picture.mean() < 0.62 or rng.random() < 0.3 else 0.15
    return _done(over(picture, np.full_like(picture, tone), alpha * 0.85), alpha, solid)


def crack(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    main = _path(rng, _spot(rng, solid), rng.uniform(0.6, 1.1), 0.42)
    alpha = rise(_distance_to(main, n) - rng.uniform(0.010, 0.018), 0.02)
    for _ in range(rng.integers(1, 4)):
        at = main[rng.integers(4, len(main) - 4)]
        branch = _path(rng, (at[0], at[1]), rng.uniform(0.2, 0.4), 0.4, 12)
        branch += at - branch[0]
        alpha = np.maximum(alpha, rise(_distance_to(branch, n) - 0.008, 0.018))
    alpha = alpha * solid
    dark = picture * 0.12
    return _done(over(picture, dark, alpha * 0.95), alpha, solid)


def hole(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    d = _blob(rng, len(solid), _spot(rng, solid), rng.uniform(0.07, 0.15), 0.12)
    alpha = rise(d, 0.02) * solid
    rim = rise(np.abs(d) - 0.012, 0.03) * solid
    changed = over(picture, np.clip(picture * 1.35 + 0.08, 0, 1), rim * 0.7)
    return _done(over(changed, np.full_like(picture, 0.04), alpha), np.maximum(alpha, rim * 0.6), solid)


def dent(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    d = _blob(rng, len(solid), _spot(rng, solid, 0.1), rng.uniform(0.11, 0.22), 0.08)
    alpha = rise(d, 0.12) * solid
    shade = lit(-alpha * len(solid) / 9, rng.uniform(3.6, 4.4), 0.5)
    return _done(picture * (1 + (shade - 1) * (alpha > 0.01))[..., None], alpha, solid, 0.12)


def bump(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    """Bubbles under a coating: a few raised, shiny domes."""
    n = len(solid)
    centre = _spot(rng, solid, 0.1)
    height = np.zeros((n, n), np.float32)
    for _ in range(rng.integers(2, 6)):
        at = (centre[0] + rng.normal(0, 0.10), centre[1] + rng.normal(0, 0.10))
        radius = rng.uniform(0.04, 0.085)
        y, x = grid(n)
        dome = np.sqrt(np.clip(1 - ((y - at[0]) ** 2 + (x - at[1]) ** 2) / radius**2, 0, None))
        height = np.maximum(height, dome * radius)
    alpha = (height > 0).astype(np.float32) * solid
    shade = lit(height * n / 2.2, 4.0, 0.45)
    return _done(picture * (1 + (shade - 1) * alpha)[..., None] + 0.05 * alpha[..., None], alpha, solid)


def stain(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    d = _blob(rng, len(solid), _spot(rng, solid), rng.uniform(0.12, 0.26), 0.22)
    alpha = rise(d, 0.07) * solid
    tints = ((0.35, 0.27, 0.16), (0.22, 0.25, 0.30), (0.45, 0.36, 0.20), (0.30, 0.22, 0.30))
    tint = np.asarray(tints[rng.integers(len(tints))], np.float32)
    ring = rise(np.abs(d) - 0.01, 0.04) * solid
    wet = over(picture, picture * 0.25 + tint * 0.62, alpha * rng.uniform(0.5, 0.75))
    return _done(over(wet, wet * 0.75, ring * 0.6), alpha, solid)


def rust(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    d = _blob(rng, n, _spot(rng, solid), rng.uniform(0.13, 0.25), 0.35)
    patchy = np.clip(0.75 + 0.35 * fractal(rng, n, 0.7), 0, 1)
    alpha = rise(d, 0.09) * patchy * solid
    tone = np.clip(1 + 0.22 * fractal(rng, n, 0.6), 0.5, 1.5)[..., None]
    layer = np.asarray((0.58, 0.27, 0.09), np.float32) * tone
    return _done(over(picture, layer, alpha * 0.9), alpha, solid, 0.22)


def burn(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    d = _blob(rng, len(solid), _spot(rng, solid), rng.uniform(0.08, 0.16), 0.18)
    halo, core = rise(d - 0.05, 0.14) * solid, rise(d, 0.07) * solid
    brown = over(picture, picture * np.asarray((0.55, 0.38, 0.22), np.float32), halo * 0.9)
    return _done(over(brown, np.full_like(picture, 0.05), core * 0.92), halo, solid)


def discoloration(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    d = _blob(rng, len(solid), _spot(rng, solid), rng.uniform(0.2, 0.36), 0.2)
    alpha = rise(d, 0.16) * solid
    shift = rng.permutation(np.asarray((1.30, 1.0, 0.62), np.float32))
    return _done(over(picture, picture * shift, alpha * 0.8), alpha, solid, 0.3)


def chip(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    d = _blob(rng, n, _edge(rng, solid), rng.uniform(0.10, 0.17), 0.3)
    alpha = rise(d, 0.02) * solid
    facet = 0.55 * lit(fractal(rng, n, 1.2) * 3, rng.uniform(0, 6.28), 0.35)[..., None]
    fresh = facet * np.clip(picture.mean((0, 1)) * 1.05, 0.15, 1)
    rim = rise(np.abs(d) - 0.006, 0.02) * solid
    return _done(over(over(picture, fresh, alpha), picture * 0.3, rim * 0.8), np.maximum(alpha, rim), solid)


def contamination(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    centre = _spot(rng, solid)
    alpha = np.zeros((n, n), np.float32)
    for _ in range(rng.integers(4, 12)):
        at = (centre[0] + rng.normal(0, 0.10), centre[1] + rng.normal(0, 0.10))
        alpha = np.maximum(alpha, rise(_blob(rng, n, at, rng.uniform(0.015, 0.045), 0.3), 0.015))
    alpha = alpha * solid
    tone = np.asarray(
        ((0.08, 0.07, 0.06), (0.92, 0.90, 0.85), (0.30, 0.42, 0.20))[rng.integers(3)], np.float32
    )
    return _done(over(picture, np.broadcast_to(tone, picture.shape), alpha * 0.95), alpha, solid)


def thread(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    line = _distance_to(_path(rng, _spot(rng, solid), rng.uniform(1.0, 1.7), 0.24, 36), n)
    alpha = rise(line - rng.uniform(0.012, 0.02), 0.016) * solid
    shadow = np.roll(rise(line - 0.02, 0.05), (n // 50, n // 60), (0, 1)) * solid
    tone = np.asarray(
        ((0.85, 0.12, 0.12), (0.95, 0.95, 0.92), (0.12, 0.12, 0.40))[rng.integers(3)], np.float32
    )
    ground = over(picture, picture * 0.5, shadow * 0.6)
    return _done(over(ground, np.broadcast_to(tone, picture.shape), alpha * 0.95), alpha, solid)


def cut(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    path = _path(rng, _spot(rng, solid), rng.uniform(0.35, 0.65), 0.05, 20)
    along = np.linspace(-1, 1, len(path))
    width = 0.035 * (1 - along**2).max() * rng.uniform(0.8, 1.4)
    line = _distance_to(path, n)
    taper = rise(np.hypot(*(g - c for g, c in zip(grid(n), path.mean(0), strict=True))) - 0.28, 0.2)
    alpha = rise(line - width * taper, 0.02) * solid
    lip = rise(line - width - 0.03, 0.04) * solid
    raised = over(picture, np.clip(picture * 1.3, 0, 1), lip * 0.6)
    return _done(over(raised, np.full_like(picture, 0.05), alpha), np.maximum(alpha, lip * 0.5), solid)


def wrinkle(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    height = np.zeros((n, n), np.float32)
    centre, turn = _spot(rng, solid, 0.1), rng.uniform(0, np.pi)
    for k in range(rng.integers(2, 4)):
        offset = (centre[0] + (k - 1) * 0.11 * np.cos(turn), centre[1] - (k - 1) * 0.11 * np.sin(turn))
        path = _path(rng, (0.0, 0.0), rng.uniform(0.6, 0.9), 0.04)
        head = np.arctan2(*(path[-1] - path[0]))
        c, s = np.cos(turn - head), np.sin(turn - head)
        path = path @ np.asarray(((c, -s), (s, c)), np.float32).T + np.asarray(offset, np.float32)
        height = np.maximum(height, np.exp(-((_distance_to(path, n) / 0.028) ** 2)))
    alpha = height * solid
    shade = lit(height * n / 22, turn + 0.8, 0.7)
    return _done(picture * (1 + (shade - 1) * (alpha > 0.05))[..., None], alpha, solid, 0.22)


def glue(rng: Rng, picture: Array, solid: Array) -> tuple[Array, Array]:
    n = len(solid)
    d = _blob(rng, n, _spot(rng, solid), rng.uniform(0.10, 0.18), 0.3)
    alpha = rise(d, 0.03) * solid
    shade = lit(ndimage.gaussian_filter(alpha, n * 0.02) * n / 8, 4.0, 0.7)
    layer = np.clip((picture * 0.65 + np.asarray((0.30, 0.29, 0.20), np.float32)) * shade[..., None], 0, 1)
    return _done(over(picture, layer, alpha * 0.9), alpha, solid)


#: every defect by the words a caption calls it
DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "hole": hole,
    "dent": dent,
    "bubble": bump,
    "stain": stain,
    "rust": rust,
    "burn mark": burn,
    "discoloration": discoloration,
    "chip": chip,
    "contamination": contamination,
    "thread": thread,
    "cut": cut,
    "wrinkle": wrinkle,
    "glue": glue,
}
