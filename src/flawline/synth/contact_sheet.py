"""One picture of many examples, for people: image with the object's outline, synthetic image, mask."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

TILE = 116  # pixels a side
GAP = 6
CAPTION = 14
COLUMNS = 3  # examples side by side, each of four tiles
OUTLINE = (255, 64, 160)
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Example:
    """One row's pictures: 8-bit RGB images and bool masks, all of one size, and a few words."""

    image: np.ndarray  # uint8 [H, W, 3]
    object_mask: np.ndarray  # bool [H, W]
    synthetic: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # bool [H, W]
    caption: str


def contact_sheet(examples: list[Example]) -> Image.Image:
    """The examples in reading order; each is image, object outline, synthetic image and mask."""
    width = 4 * TILE + 3 * 2
    height = TILE + CAPTION
    columns = min(COLUMNS, max(1, len(examples)))
    rows = -(-len(examples) // columns)
    size = (columns * (width + 2 * GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number, example in enumerate(examples):
        left = GAP + (number % columns) * (width + 2 * GAP)
        top = GAP + (number // columns) * (height + GAP)
        draw.text((left, top), example.caption, fill=INK, font=font)
        for place, tile in enumerate(_tiles(example)):
            sheet.paste(tile, (left + place * (TILE + 2), top + CAPTION))
    return sheet


def pick(count: int, wanted: int) -> list[int]:
    """`wanted` numbers (or all) evenly spread over range(count)."""
    if count <= wanted:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, wanted).round()]


def _tiles(example: Example) -> list[Image.Image]:
    return [
        _fit(example.image),
        _outlined(example.image, example.object_mask),
        _fit(example.synthetic),
        _fit((example.mask * 255).astype(np.uint8)),
    ]


def _fit(pixels: np.ndarray) -> Image.Image:
    """Reduced to one tile with its proportions kept, centred on paper."""
    picture = Image.fromarray(pixels).convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture.resize(size, Image.Resampling.BICUBIC)
    tile = Image.new("RGB", (TILE, TILE), PAPER)
    tile.paste(shown, ((TILE - shown.width) // 2, (TILE - shown.height) // 2))
    return tile


def _outlined(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The outline is as thick as a pixel of the reduced picture, so it survives the reduction."""
    thick = max(1, round(max(mask.shape) / TILE))
    edge = find_boundaries(np.pad(mask, 1), mode="inner")[1:-1, 1:-1]
    edge |= _frame(mask, thick)
    grown = np.asarray(Image.fromarray(edge).convert("L").resize((mask.shape[1], mask.shape[0]))) > 0
    for _ in range(thick // 2):
        grown = find_boundaries(grown, mode="outer") | grown
    marked = image.copy()
    marked[grown] = OUTLINE
    return _fit(marked)


def _frame(mask: np.ndarray, thick: int) -> np.ndarray:
    """Where the object runs into the picture's edge."""
    frame = np.ones_like(mask)
    frame[thick:-thick, thick:-thick] = False
    return frame & mask
