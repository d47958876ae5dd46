"""Materials: each draws an [n, n, 3] float picture in 0..1 from a random generator."""

from collections.abc import Callable

import numpy as np

from flawline.render.fields import Array, Rng, blobs, cells, colour, fractal, grid, jitter, lit

Surface = Callable[[Rng, int], Array]


def _brushed(rgb: tuple[float, float, float]) -> Surface:
    def draw(rng: Rng, n: int) -> Array:
        lines = fractal(rng, n, 0.55, (1.0, 30.0))
        glow = blobs(rng, n, 0.6)
        value = 0.62 + 0.05 * lines + 0.05 * glow
        field = value if rng.random() < 0.5 else value.T
        return colour(jitter(rng, rgb, 0.12), field * 1.35)

    return draw


def _cast(rgb: tuple[float, float, float]) -> Surface:
    def draw(rng: Rng, n: int) -> Array:
        height = fractal(rng, n, 0.9) * 1.0 + 0.5 * fractal(rng, n, 0.3)
        value = 0.62 * lit(height, rng.uniform(0, 6.28), 0.13) + 0.02 * blobs(rng, n, 0.4)
        return colour(jitter(rng, rgb, 0.1), value * 1.3)

    return draw


def _smooth(rgb: tuple[float, float, float], peel: float) -> Surface:
    def draw(rng: Rng, n: int) -> Array:
        y, x = grid(n)
        angle = rng.uniform(0, 6.28)
        slope = 0.06 * (x * np.cos(angle) + y * np.sin(angle))
        value = 0.8 + slope + 0.02 * blobs(rng, n, 0.5)
        return colour(jitter(rng, rgb, 0.25), value * lit(blobs(rng, n, 0.02), angle, peel) * 1.2)

    return draw


def wood(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    warp = 0.10 * blobs(rng, n, 0.35) + 0.02 * blobs(rng, n, 0.08)
    rings = np.sin((x * rng.uniform(1.2, 2.4) + 0.15 * y + warp) * 14)
    fibre = fractal(rng, n, 0.5, (25.0, 1.0))
    value = 0.66 + 0.09 * rings + 0.05 * fibre
    return colour(jitter(rng, (0.95, 0.68, 0.40), 0.15), value)


def leather(rng: Rng, n: int) -> Array:
    near, second = cells(rng, n, int(rng.integers(34, 42)))
    crease = np.clip((second - near) * 2.2, 0, 1)
    height = 1.2 * crease + 0.5 * blobs(rng, n, 0.04)
    shade = lit(height, rng.uniform(0, 6.28), 0.16)
    value = 0.55 * shade * (0.80 + 0.20 * crease) + 0.02 * blobs(rng, n, 0.3)
    return colour(jitter(rng, (0.78, 0.46, 0.28), 0.15), value * 1.35)


def woven(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    count = rng.integers(17, 22)
    u, v = (
        (x + 0.006 * blobs(rng, n, 0.15)) * count * np.pi / 2,
        (y + 0.006 * blobs(rng, n, 0.15)) * count * np.pi / 2,
    )
    checker = np.sign(np.sin(u) * np.sin(v))
    warp, weft = np.abs(np.sin(u)) ** 0.6, np.abs(np.sin(v)) ** 0.6
    value = np.where(checker > 0, 0.40 + 0.42 * warp, 0.34 + 0.36 * weft) + 0.045 * fractal(rng, n, 0.2)
    return colour(jitter(rng, (0.80, 0.78, 0.70), 0.12), value * 1.1)


def knit(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    count = rng.integers(12, 18)
    v = y * count * np.pi + 1.1 * np.abs(np.sin(x * count * np.pi / 2))
    value = 0.42 + 0.3 * np.abs(np.sin(v)) * (0.6 + 0.4 * np.abs(np.cos(x * count * np.pi / 2)))
    return colour(jitter(rng, (0.55, 0.62, 0.85), 0.3), value + 0.05 * fractal(rng, n, 0.3))


def felt(rng: Rng, n: int) -> Array:
    fibres = np.sum([fractal(rng, n, 0.4, s) for s in ((1.0, 8.0), (8.0, 1.0), (1.0, 1.0))], axis=0)
    return colour(jitter(rng, (0.45, 0.55, 0.50), 0.35), 0.7 + 0.06 * fibres)


def carpet(rng: Rng, n: int) -> Array:
    near, _ = cells(rng, n, int(rng.integers(28, 40)))
    return colour(jitter(rng, (0.60, 0.50, 0.62), 0.3), 0.95 - 0.5 * near + 0.06 * fractal(rng, n, 0.2))


def ceramic(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    speck = (fractal(rng, n, 0.15) > 2.1).astype(np.float32)
    angle = rng.uniform(0, 6.28)
    value = 0.86 + 0.03 * blobs(rng, n, 0.25) + 0.05 * (x * np.cos(angle) + y * np.sin(angle)) - 0.22 * speck
    veins = np.exp(-((blobs(rng, n, 0.22) * 6) ** 2)) * 0.05
    return colour(jitter(rng, (0.93, 0.90, 0.83), 0.05), value - veins)


def concrete(rng: Rng, n: int) -> Array:
    pits = (fractal(rng, n, 0.35) > 2.4).astype(np.float32)
    value = 0.62 + 0.05 * fractal(rng, n, 1.1) + 0.03 * fractal(rng, n, 0.2) - 0.16 * pits
    return colour(jitter(rng, (0.98, 0.96, 0.92), 0.08), value)


def marble(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    vein = np.abs(np.sin((x + 0.8 * y) * 4 + 1.6 * blobs(rng, n, 0.3)))
    return colour(
        jitter(rng, (0.92, 0.92, 0.95), 0.08), 0.95 - 0.3 * np.exp(-vein * 7) + 0.02 * blobs(rng, n, 0.1)
    )


def rubber(rng: Rng, n: int) -> Array:
    value = 0.24 * lit(fractal(rng, n, 0.5), rng.uniform(0, 6.28), 0.10) + 0.015 * blobs(rng, n, 0.3)
    return colour(jitter(rng, (0.98, 1.0, 1.05), 0.2), value)


def cardboard(rng: Rng, n: int) -> Array:
    y, _ = grid(n)
    flutes = 0.015 * np.sin(y * rng.uniform(50, 80))
    return colour(jitter(rng, (0.85, 0.66, 0.45), 0.1), 0.85 + flutes + 0.03 * fractal(rng, n, 0.7))


def mesh(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    count = rng.integers(9, 12)
    phase = rng.uniform(0, 3.14, 2)
    u, v = np.abs(np.sin(x * count * np.pi / 2 + phase[0])), np.abs(np.sin(y * count * np.pi / 2 + phase[1]))
    bar_u, bar_v = np.clip((0.52 - u) / 0.12, 0, 1), np.clip((0.52 - v) / 0.12, 0, 1)
    body = np.maximum(bar_u * (1 - 0.8 * u), bar_v * (0.92 - 0.8 * v))
    back = colour((0.12, 0.13, 0.15), 1 + 0.1 * blobs(rng, n, 0.3))
    wire = colour(jitter(rng, (0.86, 0.87, 0.90), 0.08), 0.35 + 0.65 * body + 0.02 * fractal(rng, n, 0.4))
    return back + (wire - back) * np.maximum(bar_u, bar_v)[..., None]


def perforated(rng: Rng, n: int) -> Array:
    y, x = grid(n)
    count = rng.integers(6, 10)
    u, v = x * count, y * count
    row = np.floor(v)
    du = (u + 0.5 * (row % 2)) % 1 - 0.5
    dv = v % 1 - 0.5
    hole = np.clip((0.30 - np.sqrt(du**2 + dv**2)) / 0.06, 0, 1)
    sheet = _brushed((0.80, 0.82, 0.85))(rng, n)
    return sheet * (1 - 0.85 * hole[..., None])


#: every material by the words a caption calls it
SURFACES: dict[str, Surface] = {
    "brushed steel": _brushed((0.86, 0.88, 0.92)),
    "brass": _brushed((0.95, 0.78, 0.42)),
    "copper": _brushed((0.93, 0.58, 0.42)),
    "cast aluminium": _cast((0.86, 0.87, 0.88)),
    "cast iron": _cast((0.50, 0.50, 0.52)),
    "white plastic": _smooth((0.95, 0.95, 0.93), 0.02),
    "black plastic": _smooth((0.20, 0.20, 0.22), 0.05),
    "red plastic": _smooth((0.85, 0.25, 0.22), 0.03),
    "blue plastic": _smooth((0.25, 0.40, 0.80), 0.03),
    "painted metal": _smooth((0.55, 0.66, 0.62), 0.10),
    "glass": _smooth((0.70, 0.85, 0.88), 0.0),
    "wood": wood,
    "leather": leather,
    "woven cloth": woven,
    "knit fabric": knit,
    "felt": felt,
    "carpet": carpet,
    "ceramic": ceramic,
    "concrete": concrete,
    "marble": marble,
    "rubber": rubber,
    "cardboard": cardboard,
    "wire mesh": mesh,
    "perforated sheet": perforated,
}
