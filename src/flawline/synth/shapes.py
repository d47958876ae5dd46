"""What every file of this room speaks of, and small helpers on pictures.

A picture is float32 [H, W, 3] in 0..1; a region or mask is bool [H, W]. Lengths scale with the picture: one
`grain` is 1/256 of its longer side, so that a defect looks the same at any resolution.
"""

import numpy as np
from scipy import ndimage

Rng = np.random.Generator
_REFERENCE_SIDE = 256.0


def grain(shape: tuple[int, ...]) -> float:
    """Pixels of one grain of a picture of this shape, at least 1."""
    return max(1.0, max(shape[:2]) / _REFERENCE_SIDE)


def smooth_noise(shape: tuple[int, int], sigma: float, rng: Rng) -> np.ndarray:
    """A smooth random field float32 [H, W] of zero mean and unit spread; `sigma` is its scale in pixels."""
    step = max(1, int(sigma // 2))  # drawn coarsely and enlarged: as smooth, and many times faster
    coarse = tuple(-(-side // step) + 4 for side in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), sigma / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, step, order=1)
    field = field[: shape[0], : shape[1]]
    spread = float(field.std())
    out: np.ndarray = (field - field.mean()) / (spread if spread > 1e-8 else 1.0)
    return out


def cell_noise(shape: tuple[int, int], cell: int, channels: int, rng: Rng) -> np.ndarray:
    """Normal noise float32 [H, W, channels], constant in square cells of `cell` pixels, randomly placed."""
    rows, columns = (-(-side // cell) + 1 for side in shape)
    values = rng.standard_normal((rows, columns, channels)).astype(np.float32)
    top, left = rng.integers(0, cell, size=2)
    full = values.repeat(cell, axis=0).repeat(cell, axis=1)
    return full[top : top + shape[0], left : left + shape[1]]


def perlin_noise(shape: tuple[int, int], rng: Rng, octaves: tuple[int, int] = (0, 6)) -> np.ndarray:
    """Perlin's gradient noise float32 [H, W], about -1..1, with 2^k cells an axis, k drawn from range(*octaves).

    Ken Perlin, "Improving Noise", 2002: random directions at the cells' corners, quintic blending. The axes have
    their own k, so that some fields are stretched.
    """
    cells = [2 ** int(rng.integers(*octaves)) for _ in shape]
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    slopes = np.stack([np.sin(angles), np.cos(angles)])
    places = [np.linspace(0, count, side, endpoint=False) for count, side in zip(cells, shape, strict=True)]
    row, column = (place.astype(int) for place in places)
    y, x = (place % 1.0 for place in places)
    y, x = y[:, None], x[None, :]

    def corner(down: int, right: int) -> np.ndarray:
        slope = slopes[:, (row + down)[:, None], (column + right)[None, :]]
        return np.asarray(slope[0] * (y - down) + slope[1] * (x - right))

    fade_y, fade_x = (6 * v**5 - 15 * v**4 + 10 * v**3 for v in (y, x))
    top = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    out: np.ndarray = (np.sqrt(2) * (top + fade_y * (bottom - top))).astype(np.float32)
    return out


def bounds(region: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """The smallest window that holds a region, widened by `margin` pixels within the picture."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), min(region.shape[0], int(rows[-1]) + 1 + margin)),
        slice(max(0, int(columns[0]) - margin), min(region.shape[1], int(columns[-1]) + 1 + margin)),
    )


def grey(picture: np.ndarray) -> np.ndarray:
    """Luma [H, W] of a picture."""
    out: np.ndarray = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return out
