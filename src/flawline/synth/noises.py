"""The noise bank: what an anomaly is made of.

Every noise is a function (picture float32 [H, W, 3], region, rng) → the picture as it would look if it were
all anomalous, float32 [H, W, 3]; only what lies inside the region is used. The bank follows OAGM (arXiv
2406.18197; FACT: Gaussian noise on the object) and APT (arXiv 2508.16157; FACT: diverse noise perturbations);
which noises there are and all strengths: CHOICE. Strengths are in units of the 0..1 range, lengths in grains.
What cannot be seen is drawn again (flawline.synth.blend), so the weakest strengths come rarely.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage, special

from flawline.synth.regions import Region
from flawline.synth.shapes import Rng, bounds, cell_noise, grain, grey, smooth_noise

Noise = Callable[[np.ndarray, Region, Rng], np.ndarray]


def gaussian(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Independent noise a grain, grey or coloured."""
    channels = 1 if rng.random() < 0.5 else 3
    field = cell_noise(picture.shape[:2], max(1, round(grain(picture.shape))), channels, rng)
    return picture + field * rng.uniform(0.15, 0.5)


def blocks(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Noise in square cells of 3 to 8 grains."""
    channels = 1 if rng.random() < 0.5 else 3
    field = cell_noise(picture.shape[:2], round(grain(picture.shape) * rng.uniform(3, 8)), channels, rng)
    return picture + field * rng.uniform(0.12, 0.4)


def speckle(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Multiplicative noise: what is bright flickers more."""
    field = cell_noise(picture.shape[:2], max(1, round(grain(picture.shape) * rng.uniform(1, 2.5))), 1, rng)
    return picture * (1 + field * rng.uniform(0.3, 0.7)) + 0.05 * field


def stain(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A soft spot of one colour, uneven like a liquid: darkens or covers what lies below."""
    unit = grain(picture.shape)
    uneven = np.clip(0.75 + 0.25 * smooth_noise(picture.shape[:2], unit * rng.uniform(3, 12), rng), 0.3, 1.0)
    strength = (rng.uniform(0.45, 0.95) * uneven)[..., None]
    if rng.random() < 0.5:  # soaked: a dark tint multiplied on
        tint = np.clip(rng.uniform(0.15, 0.55) + rng.normal(0, 0.08, 3), 0, 1).astype(np.float32)
        return picture * (1 - strength + strength * tint)
    below = float(np.median(grey(picture)[region.mask]))
    level = rng.uniform(0.0, below - 0.2) if below > 0.5 else rng.uniform(below + 0.2, 1.0)
    tint = np.clip(level + rng.normal(0, 0.1, 3), 0, 1).astype(np.float32)
    return picture * (1 - strength) + strength * tint


def shuffle(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Tiles inside the region's window change places, none stays; each is turned and a shade off."""
    rows, columns = bounds(region.mask)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    tile = max(3, round(min(height, width) / rng.integers(2, 6)))
    tops, lefts = range(0, height - tile + 1, tile), range(0, width - tile + 1, tile)
    places = [(rows.start + top, columns.start + left) for top in tops for left in lefts]
    out = picture.copy()
    order = rng.permutation(len(places))
    for here, there in zip(order, np.roll(order, 1), strict=True):  # one cycle: a derangement
        (top, left), (from_top, from_left) = places[here], places[there]
        piece = picture[from_top : from_top + tile, from_left : from_left + tile]
        out[top : top + tile, left : left + tile] = np.rot90(piece, int(rng.integers(4))) + rng.normal(
            0, 0.07
        )
    return out


def paste(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Another place of the same picture, turned and in other colours."""
    rows, columns = bounds(region.mask)
    turned = np.rot90(picture, int(rng.integers(1, 4)))
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    reach = ((0, max(0, height - turned.shape[0])), (0, max(0, width - turned.shape[1])), (0, 0))
    turned = np.pad(
        turned, reach, mode="reflect" if max(reach[0][1], reach[1][1]) < min(turned.shape[:2]) else "wrap"
    )
    top = int(rng.integers(0, turned.shape[0] - height + 1))
    left = int(rng.integers(0, turned.shape[1] - width + 1))
    piece = turned[top : top + height, left : left + width]
    middle = piece.mean(axis=(0, 1), keepdims=True)
    shift = rng.choice([-1, 1]) * rng.uniform(0.06, 0.3) + rng.normal(0, 0.05, 3)
    out = picture.copy()
    out[rows, columns] = (piece - middle) * rng.uniform(0.7, 1.5) + middle + shift
    return out


def line(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A dark groove or a bright scratch, with a faint grain along it."""
    grainy = 1 + 0.15 * cell_noise(picture.shape[:2], max(1, round(grain(picture.shape))), 1, rng)
    below = float(np.median(grey(picture)[region.mask]))
    if below > 0.65 or (below > 0.3 and rng.random() < 0.5):
        return picture * rng.uniform(0.15, 0.5) * grainy
    return picture + (1 - picture) * np.clip(rng.uniform(0.5, 0.9) * grainy, 0, 1)


def blur(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Smeared: the structure is gone, and the shade is off, or it could not be seen on a plain surface."""
    sigma = grain(picture.shape) * rng.uniform(3, 8)
    smeared = ndimage.gaussian_filter(picture, (sigma, sigma * rng.uniform(0.5, 1.0), 0), mode="nearest")
    shade = rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 0.15)
    return smeared + (shade if 0.1 < float(smeared[region.mask].mean()) + shade < 0.95 else -shade)


def dropout(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A part is missing: filled with what the picture shows elsewhere outside the region, or a dark hole."""
    elsewhere = picture[~region.mask]
    if len(elsewhere) == 0 or rng.random() < 0.4:
        fill = picture[region.mask].mean(axis=0) * rng.uniform(0.05, 0.45)
    else:
        fill = elsewhere[int(rng.integers(len(elsewhere)))]
    shade = 0.02 * smooth_noise(picture.shape[:2], 4 * grain(picture.shape), rng)[..., None]
    return np.broadcast_to(fill, picture.shape) + shade


def oagm(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """OAGM's noise: independent in every grain and channel, its deviation drawn from 0.1 to 0.6."""
    field = cell_noise(picture.shape[:2], max(1, round(grain(picture.shape))), 3, rng)
    return picture + field * rng.uniform(0.1, 0.6)


def uniform(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Independent noise a grain, evenly distributed: no far outliers as in Gaussian noise."""
    channels = 1 if rng.random() < 0.5 else 3
    field = cell_noise(picture.shape[:2], max(1, round(grain(picture.shape))), channels, rng)
    even = 2 * special.ndtr(field) - 1
    return picture + even * rng.uniform(0.1, 0.5)


def salt_pepper(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A share of the grains, up to three in ten, is black or white."""
    field = cell_noise(picture.shape[:2], max(1, round(grain(picture.shape))), 1, rng)
    struck = 2 * special.ndtr(-np.abs(field)) < rng.uniform(0.02, 0.3)
    return np.where(struck, (field > 0).astype(np.float32), picture)


def low_frequency(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A smooth field of one random tint: brighter here, darker there, in clouds of 2 to 12 grains."""
    clouds = smooth_noise(picture.shape[:2], grain(picture.shape) * rng.uniform(2, 12), rng)
    tint = rng.uniform(-1, 1, 3)
    tint = tint / np.abs(tint).max()
    return picture + rng.uniform(0.1, 0.5) * clouds[..., None] * tint


def sharpen(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """Every edge and grain exaggerated (unsharp masking), as where a surface is torn or rough."""
    sigma = grain(picture.shape) * rng.uniform(0.8, 2.8)
    smooth = ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")
    return picture + rng.uniform(2, 6) * (picture - smooth)


def missing(picture: np.ndarray, region: Region, rng: Rng) -> np.ndarray:
    """A part is missing and its surroundings go on: their mean colour, or the texture beside the region."""
    rows, columns = bounds(region.mask)
    reach = max(2, round(2 * grain(picture.shape)))
    around = ndimage.binary_dilation(region.mask, iterations=reach) & ~region.mask
    if not around.any() or rng.random() < 0.5:
        fill = picture[around].mean(axis=0) if around.any() else picture.mean(axis=(0, 1))
        return np.broadcast_to(fill, picture.shape)
    side = int(rng.integers(2))
    step = (rows.stop - rows.start, columns.stop - columns.start)[side] + reach
    return np.roll(picture, step if rng.random() < 0.5 else -step, axis=side)


BANK: dict[str, Noise] = {
    "gaussian": gaussian,
    "blocks": blocks,
    "stain": stain,
    "shuffle": shuffle,
    "paste": paste,
    "line": line,
    "blur": blur,
    "speckle": speckle,
    "dropout": dropout,
    "uniform": uniform,
    "salt_pepper": salt_pepper,
    "low_frequency": low_frequency,
    "sharpen": sharpen,
    "missing": missing,
    "oagm_full": oagm,
    "oagm_region": oagm,
}
# On the whole object these still read as a bad object; a moved or missing object would be another picture.
ON_WHOLE_OBJECT = frozenset(
    {"gaussian", "blocks", "speckle", "stain", "uniform", "salt_pepper", "low_frequency"}
)
# Added in full, as OAGM does; the others are blended with an opacity of the settings' range.
OPAQUE = frozenset({"oagm_full", "oagm_region"})
