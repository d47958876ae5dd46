"""The work behind `flawline score`: find images, score them in batches, write overlays and a table.

A bad image is a problem to tell, not a reason to stop: the others are still scored.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.cli.overlay import Scale, scale_of, side_by_side
from flawline.data.images import is_image_name, load_rgb
from flawline.errors import FlawlineError
from flawline.files import atomic_file, write_text
from flawline.progress import track
from flawline.serve.ahead import ahead, in_batches

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from flawline.detector import Detector


@dataclass(frozen=True)
class Found:
    """An image to score: where it lies, and its name in the output (relative to what the user named)."""

    path: Path
    name: str


@dataclass(frozen=True)
class Scored:
    """One image's result; `overlay` is relative to the output folder, `types` and `named_by` as in
    `flawline.detector.Result`."""

    image: str
    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    overlay: str | None
    types: dict[str, float] = field(default_factory=dict)
    named_by: dict[str, str] = field(default_factory=dict)


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
    tiles: int = 1,
    more: Sequence[str] = (),
) -> Iterator[Scored]:
    """Score in batches, so that memory does not grow with the number of images.

    The next batch is decoded, and the last one's overlays are drawn, while one is scored.

    Args:
        detector: scores a list of PIL images.
        images: what to score; results come in this order.
        batch: images decoded and scored at a time.
        max_pixels: larger images are refused by their header.
        out: folder for overlays, or None for none. The first batch sets the colours' scale for all of them.
        problems: gets one clause for every image that cannot be used.
        defects, category, tiles, more: as `Detector.score` takes them.
    """
    names = _overlay_names(images) if out is not None else {}
    asked: dict[str, Any] = {"category": category, "defects": defects} | (
        {"tiles": tiles} if tiles != 1 else {}
    )
    if more:
        asked["more"] = list(more)
    batches = list(in_batches(images, batch))
    opened = ahead(partial(_open, max_pixels=max_pixels), batches)
    scale: Scale | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="flawline-overlays") as drawing:
        drawn: list[Future[None]] = []
        for _ in track(batches, f"scoring {len(images)} images, in batches"):
            usable, faults = next(opened)
            problems += faults
            results = detector.score([image for _, image in usable], **asked) if usable else []
            if out is not None and results and scale is None:
                scale = scale_of([result.map for result in results])
            _ended(drawn)
            for (item, image), result in zip(usable, results, strict=True):
                overlay = names.get(item.path)
                if out is not None and overlay is not None and scale is not None:
                    drawn.append(drawing.submit(_draw, out / overlay, image, result.map, scale))
                yield Scored(
                    image=str(item.path),
                    score=float(result.score),
                    threshold=float(result.threshold),
                    is_anomalous=bool(result.is_anomalous),
                    defect=result.defect,
                    overlay=overlay,
                    types=result.types,
                    named_by=result.named_by,
                )
        _ended(drawn)


def _open(images: Sequence[Found], max_pixels: int) -> tuple[list[tuple[Found, "Image.Image"]], list[str]]:
    """The images that can be used, decoded, and a clause for each of the others."""
    usable, faults = [], []
    for item in images:
        try:
            usable.append((item, load_rgb(item.path, max_pixels)))
        except FlawlineError as error:
            faults.append(error.problem)
    return usable, faults


def _ended(drawn: "list[Future[None]]") -> None:
    """Wait for overlays, so that no more than a batch of pictures waits; what failed is raised here."""
    while drawn:
        drawn.pop(0).result()


def _draw(path: Path, image: "Image.Image", values: "np.ndarray", scale: Scale) -> None:
    with atomic_file(path) as partial_file:
        side_by_side(image, values, scale).save(partial_file, format="PNG")


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
