"""The work behind `flawline score`: find images, score them in batches, write overlays and a table.

A bad image is a problem to tell, not a reason to stop: the others are still scored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flawline.cli.overlay import Scale, scale_of, side_by_side
from flawline.data.images import is_image_name, load_rgb
from flawline.errors import FlawlineError
from flawline.files import atomic_file, write_text
from flawline.progress import track

if TYPE_CHECKING:
    from PIL import Image

    from flawline.detector import Detector


@dataclass(frozen=True)
class Found:
    """An image to score: where it lies, and its name in the output (relative to what the user named)."""

    path: Path
    name: str


@dataclass(frozen=True)
class Scored:
    """One image's result; `overlay` is relative to the output folder, `types` as in `flawline.detector.Result`."""

    image: str
    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    overlay: str | None
    types: dict[str, float] = field(default_factory=dict)


def find_images(paths: Sequence[Path]) -> tuple[list[Found], list[str]]:
    """Images below the given files and folders, folders searched recursively and sorted.

    Returns:
        The images, each once, and a clause for every path that leads to none.
    """
    found: dict[Path, Found] = {}
    problems = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file))
            if not inside:
                problems.append(f"{path}: no image in this folder")
            for file in inside:
                found.setdefault(file.resolve(), Found(file, file.relative_to(path).as_posix()))
        elif path.is_file():
            found.setdefault(path.resolve(), Found(path, path.name))
        else:
            problems.append(f"{path}: no such file or folder")
    return list(found.values()), problems


def score_images(
    detector: "Detector",
    images: Sequence[Found],
    batch: int,
    max_pixels: int,
    out: Path | None,
    problems: list[str],
    defects: list[str] | None = None,
    category: str = "",
) -> Iterator[Scored]:
    """Score in batches, so that memory does not grow with the number of images.

    Args:
        detector: scores a list of PIL images.
        images: what to score; results come in this order.
        batch: images decoded and scored at a time.
        max_pixels: larger images are refused by their header.
        out: folder for overlays, or None for none. The first batch sets the colours' scale for all of them.
        problems: gets one clause for every image that cannot be used.
        defects, category: as `Detector.score` takes them.
    """
    names = _overlay_names(images) if out is not None else {}
    starts = range(0, len(images), batch)
    scale: Scale | None = None
    for start in track(starts, f"scoring {len(images)} images, in batches"):
        usable = list(_open(images[start : start + batch], max_pixels, problems))
        pictures = [image for _, image in usable]
        results = detector.score(pictures, category=category, defects=defects) if usable else []
        if out is not None and results and scale is None:
            scale = scale_of([result.map for result in results])
        for (item, image), result in zip(usable, results, strict=True):
            overlay = names.get(item.path)
            if out is not None and overlay is not None and scale is not None:
                _write_png(out / overlay, side_by_side(image, result.map, scale))
            yield Scored(
                image=str(item.path),
                score=float(result.score),
                threshold=float(result.threshold),
                is_anomalous=bool(result.is_anomalous),
                defect=result.defect,
                overlay=overlay,
                types=result.types,
            )


def _open(
    images: Sequence[Found], max_pixels: int, problems: list[str]
) -> Iterator[tuple[Found, "Image.Image"]]:
    for item in images:
        try:
            yield item, load_rgb(item.path, max_pixels)
        except FlawlineError as error:
            problems.append(error.problem)


def _overlay_names(images: Sequence[Found]) -> dict[Path, str]:
    """Overlay files named after their images, `a.jpg.png`; a number keeps equal names apart."""
    taken: set[str] = set()
    names = {}
    for item in images:
        name, number = f"overlays/{item.name}.png", 1
        while name in taken:
            number += 1
            name = f"overlays/{item.name}-{number}.png"
        taken.add(name)
        names[item.path] = name
    return names


def _write_png(path: Path, image: "Image.Image") -> None:
    with atomic_file(path) as partial:
        image.save(partial, format="PNG")


def write_csv(path: Path, rows: Sequence[Scored]) -> None:
    """scores.csv: one row an image, numbers as they are (repr), true and false in small letters."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "score", "threshold", "is_anomalous", "defect", "overlay"))
    for row in rows:
        verdict = "true" if row.is_anomalous else "false"
        writer.writerow((row.image, row.score, row.threshold, verdict, row.defect, row.overlay or ""))
    write_text(path, text.getvalue())
