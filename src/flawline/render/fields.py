"""Scalar fields that surfaces are made of. All are [n, n] float32 arrays; lengths are fractions of the side."""

import numpy as np
from scipy import ndimage, spatial

Array = np.ndarray
Rng = np.random.Generator


def grid(n: int) -> tuple[Array, Array]:
    """Pixel-centre coordinates (y, x) in -1..1."""
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1
    return np.meshgrid(axis, axis, indexing="ij")


def fractal(rng: Rng, n: int, beta: float, stretch: tuple[float, float] = (1.0, 1.0)) -> Array:
    """Power-law noise (amplitude ~ frequency^-beta), mean 0, deviation 1.

    Args:
        rng: source of randomness.
        n: side in pixels.
        beta: 0 is white, 1 is pink, 2 is cloud-like.
        stretch: how much longer features are along (y, x).
    """
    fy = np.fft.fftfreq(n)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(n)[None, :] * stretch[1]
    radius = np.sqrt(fy**2 + fx**2)
    radius[0, 0] = 1.0
    spectrum = rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape)
    field = np.fft.irfft2(spectrum / np.maximum(radius, 0.5 / n) ** beta, s=(n, n))
    field -= field.mean()
    return (field / (field.std() + 1e-9)).astype(np.float32)


def blobs(rng: Rng, n: int, size: float) -> Array:
    """Smooth noise whose features are about `size` of the side wide; mean 0, deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal((n, n)).astype(np.float32), size * n / 2, mode="wrap")
    return (field - field.mean()) / (field.std() + 1e-9)


def cells(rng: Rng, n: int, count: int) -> tuple[Array, Array]:
    """Distance to the nearest and the second nearest of about `count`² jittered points, in cell sizes."""
    base = (
        np.stack(np.meshgrid(*[np.arange(-1, count + 1)] * 2, indexing="ij"), -1).reshape(-1, 2) + 0.5
    ) / count
    points = base + rng.uniform(-0.42, 0.42, base.shape) / count
    axis = (np.arange(n) + 0.5) / n
    where = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    distance, _ = spatial.cKDTree(points).query(where, k=2)
    scaled = (distance * count).astype(np.float32).reshape(n, n, 2)
    return scaled[..., 0], scaled[..., 1]


def lit(height: Array, angle: float, strength: float) -> Array:
    """Lambert-like shading factor around 1 of a height field lit from `angle` (radians)."""
    dy, dx = np.gradient(height)
    return np.clip(1 + strength * (dx * np.cos(angle) + dy * np.sin(angle)), 0.25, 1.9).astype(np.float32)


def rise(distance: Array, width: float) -> Array:
    """0 outside, 1 inside of a shape given by signed distance (negative inside), `width` wide soft edge."""
    t = np.clip(0.5 - distance / max(width, 1e-6), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def colour(rgb: tuple[float, float, float], value: Array) -> Array:
    """[n, n, 3] picture: a base colour times a brightness field."""
    return np.asarray(rgb, np.float32) * value[..., None]


def jitter(rng: Rng, rgb: tuple[float, float, float], amount: float) -> tuple[float, float, float]:
    """The colour with its brightness and hue moved a little."""
    values = np.clip(
        np.asarray(rgb) * rng.uniform(1 - amount, 1 + amount) + rng.normal(0, amount / 4, 3), 0.02, 0.98
    )
    return float(values[0]), float(values[1]), float(values[2])


def over(base: Array, layer: Array, alpha: Array) -> Array:
    """`layer` painted over `base` with opacity `alpha` [n, n]."""
    return base + (layer - base) * alpha[..., None]
