"""Pictures of single cases: the image, the image with the true defect outlined, and the anomaly map."""

import numpy as np
from PIL import Image
from scipy import ndimage

PANEL = 160
GAP = 4
OUTLINE = (0, 255, 170)


def heat_scale(maps: np.ndarray) -> tuple[float, float]:
    """The map values drawn darkest and brightest, one pair for a whole cell so that pictures compare.

    Args:
        maps: [n, h, w]; the median and the 99.9th percentile leave out stray pixels.
    """
    low, high = np.percentile(maps, [50, 99.9])
    return float(low), float(high if high > low else low + 1)


def heat(anomaly_map: np.ndarray, scale: tuple[float, float]) -> Image.Image:
    """The map [h, w] in the colours of matplotlib's inferno over a fixed scale."""
    from matplotlib import colormaps

    low, high = scale
    levels = np.clip((anomaly_map - low) / (high - low), 0, 1)
    return Image.fromarray(colormaps["inferno"](levels, bytes=True)[..., :3])


def overlay(
    image: Image.Image, mask: np.ndarray | None, anomaly_map: np.ndarray, scale: tuple[float, float]
) -> Image.Image:
    """One picture of three square panels: image | image with outlined mask | heat of the anomaly map.

    Args:
        image: any size; drawn with the geometry the model saw, stretched to a square.
        mask: [h, w] bool, or None where there is none to outline.
        anomaly_map: [h, w] float32.
        scale: from `heat_scale`.
    """
    photo = image.convert("RGB").resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    panels = [
        photo,
        outline(photo, mask),
        heat(anomaly_map, scale).resize((PANEL, PANEL), Image.Resampling.BICUBIC),
    ]
    strip = Image.new("RGB", (len(panels) * (PANEL + GAP) - GAP, PANEL), "white")
    for number, panel in enumerate(panels):
        strip.paste(panel, (number * (PANEL + GAP), 0))
    return strip


def outline(photo: Image.Image, mask: np.ndarray | None) -> Image.Image:
    """The photo with a line just outside the mask [h, w] bool, so that the defect itself stays visible."""
    if mask is None or not mask.any():
        return photo
    large = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(photo.size)) > 127
    around = ndimage.binary_dilation(large, iterations=3) & ~ndimage.binary_dilation(large, iterations=1)
    pixels = np.asarray(photo).copy()
    pixels[around] = OUTLINE
    return Image.fromarray(pixels)
