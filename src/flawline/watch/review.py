"""The pages that a person decides by: reports/review/index.html and one page an item; no script, no other file."""

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageDraw

from flawline.data.images import load_rgb
from flawline.data.vocabulary import load_vocabulary
from flawline.errors import FlawlineError
from flawline.files import write_text
from flawline.report.pictures import QUALITY, inline
from flawline.settings import Settings
from flawline.watch.bank import Bank
from flawline.watch.drift import Drift
from flawline.watch.state import Crop, Item, State
from flawline.watch.words import WordList, all_words
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from flawline.detector import Detector

HERE = Path(__file__).parent
SHOWN = 24
_LONGEST, _CROP = 360, 180


@dataclass(frozen=True)
class Shot:
    """An image of an item: whole with the crop's place marked, and the crop, as data URLs."""

    name: str
    score: float
    whole: Markup
    crop: Markup


@dataclass(frozen=True)
class Sheet:
    """What an item's page tells.

    Attributes:
        images: how many it has; `shots` shows the SHOWN with the highest scores, the highest first.
        words: nearest words with their cosine. like: nearest known groups: (name, how many crops, mean cosine).
        place: (data set, category) that most of its images show, as far as that can be told; or None.
    """

    item: Item
    images: int
    shots: list[Shot]
    words: list[tuple[str, float]]
    like: list[tuple[str, int, float]]
    place: tuple[str, str] | None


def review_folder(workspace: Workspace) -> Path:
    """Where the pages are."""
    return workspace.root / "reports" / "review"


def page_of(workspace: Workspace, number: int) -> Path:
    """An item's page."""
    return review_folder(workspace) / f"item-{number}.html"


def write_pages(
    workspace: Workspace,
    settings: Settings,
    detector: "Detector",
    bank: Bank,
    state: State,
    drift: Drift,
    changed: set[int],
) -> None:
    """Write the list of items, and the pages of those that changed or are missing. The same state, the same bytes."""
    sheets = [
        item
        for item in state.items()
        if item.number in changed or not page_of(workspace, item.number).is_file()
    ]
    if sheets:
        listed = WordList(detector.method.backbone, all_words(load_vocabulary(workspace.vocabulary)))
        for item in sheets:
            sheet = _sheet(settings, bank, state, item, listed)
            write_text(page_of(workspace, item.number), _render("item.html", sheet=sheet, shown=SHOWN))
    write_index(workspace, state, drift)


def write_index(workspace: Workspace, state: State, drift: Drift) -> None:
    """Write the list of items alone: it needs no prompt set."""
    counts = {item.number: len(state.crops(item=item.number)) for item in state.items()}
    text = _render("index.html", items=state.items(), counts=counts, verdicts=state.counts(), drift=drift)
    write_text(review_folder(workspace) / "index.html", text)


def write_decided(workspace: Workspace, item: Item) -> None:
    """Replace the page of a decided item by one that says so, without pictures."""
    write_text(page_of(workspace, item.number), _render("decided.html", item=item))


def _sheet(settings: Settings, bank: Bank, state: State, item: Item, listed: WordList) -> Sheet:
    crops = state.crops(item=item.number)
    best = sorted(crops, key=lambda crop: (-crop.score, crop.sha256))[:SHOWN]
    shots = [shot for crop in best if (shot := _shot(state, crop, settings.data.max_pixels)) is not None]
    vectors = np.stack([crop.vector for crop in crops])
    near = [found for crop in crops if (found := bank.nearest(crop.vector)) is not None]
    names = Counter(group.name for group, _ in near)
    like = [
        (name, count, float(np.mean([cosine for group, cosine in near if group.name == name])))
        for name, count in sorted(names.items(), key=lambda one: (-one[1], one[0]))[:3]
    ]
    return Sheet(item, len(crops), shots, listed.nearest(vectors, bank.good_centre), like, _place(names))


def _place(names: Counter[str]) -> tuple[str, str] | None:
    """The product whose known crops are nearest most often."""
    products: Counter[tuple[str, str]] = Counter()
    for name, count in names.items():
        parts = name.split("/")
        if len(parts) == 3:
            products[parts[0], parts[1]] += count
    return min(products, key=lambda one: (-products[one], one)) if products else None


def _shot(state: State, crop: Crop, max_pixels: int) -> Shot | None:
    try:
        picture = load_rgb(state.images_folder / crop.file, max_pixels)
    except FlawlineError:  # somebody emptied the folder: the item can still be judged by its other images
        return None
    cut = picture.crop(crop.box)
    scale = min(1.0, _LONGEST / max(picture.size))
    whole = _resized(picture, scale)
    left, upper, right, lower = (round(edge * scale) for edge in crop.box)
    pen = ImageDraw.Draw(whole)
    pen.rectangle((left, upper, right - 1, lower - 1), outline=(0, 0, 0), width=4)
    pen.rectangle((left + 1, upper + 1, right - 2, lower - 2), outline=(255, 210, 0), width=2)
    cut = _resized(cut, _CROP / max(cut.size))
    return Shot(crop.name, crop.score, _jpeg(whole), _jpeg(cut))


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _jpeg(picture: Image.Image) -> Markup:
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return inline(stream.getvalue(), "jpeg")


def _render(template: str, **given: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE / "pages", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (HERE.parent / "report" / "page.css").read_text(encoding="utf-8")
    own = (HERE / "pages" / "review.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style + own), **given)
