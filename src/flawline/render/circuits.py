"""A populated circuit board: green solder mask, traces, pads, chips, resistors and capacitors."""

import numpy as np
from scipy import ndimage

from flawline.render.fields import Array, Rng, blobs, fractal, grid, lit, over, rise
from flawline.render.parts import Placed, _box

Component = tuple[str, float, float, float, float]  # kind, y, x, half height, half width

LAYOUT: tuple[Component, ...] = (
    ("chip", -0.22, -0.22, 0.20, 0.20),
    ("chip", 0.36, 0.30, 0.14, 0.22),
    ("can", -0.40, 0.38, 0.12, 0.12),
    ("can", -0.08, 0.42, 0.10, 0.10),
    ("resistor", 0.16, -0.44, 0.045, 0.09),
    ("resistor", 0.30, -0.44, 0.045, 0.09),
    ("resistor", 0.44, -0.44, 0.045, 0.09),
    ("resistor", 0.30, -0.16, 0.045, 0.09),
    ("resistor", 0.44, -0.16, 0.045, 0.09),
    ("resistor", 0.12, 0.12, 0.09, 0.045),
    ("resistor", -0.48, 0.06, 0.045, 0.09),
    ("connector", -0.54, -0.34, 0.06, 0.24),
)
_BODY = {"chip": (0.10, 0.10, 0.11), "resistor": (0.16, 0.13, 0.12), "connector": (0.88, 0.86, 0.78)}


def draw_board(
    rng: Rng, n: int, ground: Array, turn: float, missing: int | None = None
) -> tuple[Placed, Array]:
    """A board on `ground`; component number `missing` is left out.

    Returns:
        The placed board and the mask [n, n] (bool) of the missing component's place (empty if none).
    """
    y, x = grid(n)
    moved = rng.uniform(-0.02, 0.02, 2)
    c, s = np.cos(turn), np.sin(turn)
    y, x = c * (y - moved[0]) - s * (x - moved[1]), s * (y - moved[0]) + c * (x - moved[1])
    d = np.maximum(_box(y, x, 0.74, 0.74, 0.05), 0.06 - np.hypot(np.abs(y) - 0.64, np.abs(x) - 0.64))
    alpha = rise(d, 2.5 / n)
    shadow = np.roll(ndimage.gaussian_filter(alpha, 0.015 * n), (n // 50, n // 60), (0, 1))
    value = 1 + 0.03 * blobs(rng, n, 0.4) + 0.02 * fractal(rng, n, 0.3)
    board = np.asarray((0.07, 0.36, 0.20), np.float32) * value[..., None]
    board = _traces(board, y, x, n)
    gap = np.zeros((n, n), bool)
    for k, part in enumerate(LAYOUT):
        board = _pads(board, part, y, x, n)
        if k == missing:
            gap = _box(y - part[1], x - part[2], part[3] + 0.03, part[4] + 0.05, 0.01) < 0
        else:
            board = _component(rng, board, part, y, x, n)
    picture = over(ground * (1 - 0.5 * shadow[..., None]), board, alpha)
    return Placed(picture, alpha > 0.5), gap


def _traces(board: Array, y: Array, x: Array, n: int) -> Array:
    copper = np.asarray((0.14, 0.47, 0.27), np.float32)
    lines = np.zeros_like(y)
    for k in range(9):
        at = -0.62 + k * 0.155
        across = np.abs(y - at - 0.05 * np.clip((x + 0.1 * k - 0.4) * 4, -1, 1)) - 0.008
        along = np.abs(x - at - 0.05 * np.clip((y - 0.08 * k + 0.3) * 4, -1, 1)) - 0.008
        lines = np.maximum(
            lines, np.maximum(rise(across, 2 / n) * (k % 2), rise(along, 2 / n) * ((k + 1) % 2))
        )
    return over(board, np.broadcast_to(copper, board.shape), lines * 0.8)


def _pads(board: Array, part: Component, y: Array, x: Array, n: int) -> Array:
    kind, cy, cx, h, w = part
    tin = np.broadcast_to(np.asarray((0.80, 0.80, 0.76), np.float32), board.shape)
    if kind == "chip":
        comb_x, comb_y = np.sin((x - cx) * 62) > -0.1, np.sin((y - cy) * 62) > -0.1
        legs = (np.abs(np.abs(y - cy) - h - 0.03) < 0.035) & (np.abs(x - cx) < w) & comb_x
        legs |= (np.abs(np.abs(x - cx) - w - 0.03) < 0.035) & (np.abs(y - cy) < h) & comb_y
        return over(board, tin, legs.astype(np.float32) * 0.9)
    if kind == "resistor":
        long_x = w > h
        off = (np.abs(x - cx) - w) if long_x else (np.abs(y - cy) - h)
        side = np.abs(y - cy) - h if long_x else np.abs(x - cx) - w
        return over(board, tin, rise(np.maximum(np.abs(off) - 0.035, side - 0.01), 2 / n))
    if kind == "can":
        ring = np.abs(np.hypot(y - cy, x - cx) - h - 0.02) - 0.012
        return over(board, np.full_like(board, 0.9), rise(ring, 2 / n) * 0.8)
    return over(board, tin, rise(_box(y - cy, x - cx, h + 0.015, w + 0.015, 0.01), 2 / n))


def _component(rng: Rng, board: Array, part: Component, y: Array, x: Array, n: int) -> Array:
    kind, cy, cx, h, w = part
    if kind == "can":
        r = np.hypot(y - cy, x - cx)
        top = np.where(r < h * 0.82, 0.78, 0.45) * (1 + 0.1 * np.sign(x - cx) * (np.abs(y - cy) < h * 0.5))
        layer = np.asarray((0.95, 0.96, 1.0), np.float32) * top[..., None]
        return over(board, layer, rise(r - h, 2 / n))
    d = _box(y - cy, x - cx, h, w, 0.015)
    alpha = rise(d, 2 / n)
    shade = lit(ndimage.gaussian_filter(alpha, 0.5), 4.0, 0.5)
    layer = (
        np.asarray(_BODY[kind], np.float32) * (1 + 0.03 * fractal(rng, n, 0.3))[..., None] * shade[..., None]
    )
    if kind == "chip":
        dot = rise(np.hypot(y - cy + h * 0.7, x - cx + w * 0.7) - 0.025, 2 / n)
        print_line = (
            (np.abs(y - cy) < h * 0.45) & (np.sin((y - cy) * 90) > 0.3) & (np.abs(x - cx) < w * 0.6)
        ) * 0.35
        layer = over(layer, np.full_like(layer, 0.75), np.maximum(dot, print_line.astype(np.float32)))
    if kind == "connector":
        slots = ((np.sin((x - cx) * 70) > 0.35) & (np.abs(y - cy) < h * 0.6)).astype(np.float32)
        layer = over(layer, np.full_like(layer, 0.15), slots)
    return over(board, layer, alpha)
