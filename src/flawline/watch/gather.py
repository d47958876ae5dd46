"""The images that shall become a defect type: found, checked one by one, and where each of them will stand."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flawline.data.images import examine, examine_mask, is_image_name
from flawline.data.layouts import GOOD
from flawline.data.layouts.listing import match_masks
from flawline.data.manifest import build_manifest
from flawline.data.plan import digest
from flawline.data.sources import opened
from flawline.data.storage import SCHEME
from flawline.errors import FlawlineError
from flawline.settings import Name, Settings
from flawline.workspace import Workspace


@dataclass(frozen=True)
class Place:
    """Where a type stands: data set, category and its folder name."""

    dataset: str
    category: str
    defect: str

    def folder(self, workspace: Workspace) -> Path:
        return workspace.data / self.dataset / self.category / "test" / self.defect

    def masks(self, workspace: Workspace) -> Path:
        return workspace.data / self.dataset / self.category / "ground_truth" / self.defect


@dataclass(frozen=True)
class Piece:
    """An image to take in: its file, its mask or None, its content's hash, and the stem it will have."""

    image: Path
    mask: Path | None
    sha256: str
    stem: str


@dataclass(frozen=True)
class Gathered:
    """`pieces` are to be taken in; `there` says how many stand at this place already, with the same content."""

    pieces: list[Piece]
    there: int


def find_place(
    workspace: Workspace, settings: Settings, name: str, category: str, dataset: str | None
) -> Place:
    """Check the name, and find the data set that has the category.

    Raises:
        FlawlineError: a bad name, no such category, or several data sets have it.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise FlawlineError(
            f"{name!a} cannot name a defect type", "use letters, digits, '.', '_' and '-', at most 64"
        ) from None
    if name.casefold() == GOOD:
        raise FlawlineError(f"'{name}' is no defect type", "give the defect a name")
    if not dataset and "/" in category:  # as categories are listed, here and in the report
        dataset, _, category = category.partition("/")
    names = [dataset] if dataset else settings.data.all
    has = [
        one for one in names if _is_part(one) and _is_part(category) and _categories(workspace, one, category)
    ]
    if not has:
        there = ", ".join(f"{one}/{c}" for one in names if _is_part(one) for c in _categories(workspace, one))
        raise FlawlineError(
            f"no category '{category}' in {', '.join(names)}", f"there are: {there or 'none'}"
        )
    if len(has) > 1:
        raise FlawlineError(f"{' and '.join(has)} have a category '{category}'", "choose one with --dataset")
    place = Place(has[0], category, name)
    for folder in sorted(place.folder(workspace).parent.glob("*")):
        if folder.name.casefold() == name.casefold() and folder.name != name:
            raise FlawlineError(
                f"'{name}' and the type '{folder.name}' differ in case alone", "use its spelling"
            )
    return place


def gather(
    workspace: Workspace,
    settings: Settings,
    place: Place,
    sources: Sequence[str | Path],
    masks: Path | None,
    opened_sources: ExitStack,
) -> Gathered:
    """Find and check every image before anything is copied.

    Args:
        workspace: whose data.
        settings: limits on images; the data sets whose images must not come again.
        place: where they shall stand.
        sources: image files, folders (searched), and s3:// prefixes.
        masks: a folder with masks, matched by stem; None: there are none.
        opened_sources: closes what was fetched or unpacked.

    Raises:
        FlawlineError: the first image that cannot be used, by name.
    """
    files = _files(workspace, sources, masks, opened_sources)
    by_image = match_masks(files, masks) if masks is not None else {}
    if masks is not None and not masks.is_dir():
        raise FlawlineError(f"{masks} is no folder", "name the folder with the masks")
    for image in files:
        if masks is not None and image not in by_image:
            raise FlawlineError(f"{image} has no mask in {masks}", f"add {image.stem}_mask.png")
    known = _known(workspace, settings, place)
    taken = {path.stem.casefold() for path in place.folder(workspace).glob("*")}
    pieces: list[Piece] = []
    given: set[str] = set()
    there = 0
    here = f"{place.dataset}/{place.category}/test/{place.defect}/"
    for image in files:
        sha256 = digest(image)
        if sha256 in given:
            continue
        given.add(sha256)
        if known.get(sha256, "").startswith(here):
            there += 1
            continue
        if sha256 in known:
            raise FlawlineError(
                f"{image} stands in the data already, as {known[sha256]}", "leave it out, or move that one"
            )
        mask = by_image.get(image)
        _check(settings, image, mask)
        stem, number = image.stem, 2
        while stem.casefold() in taken:  # 7.jpg and 7.png are two images: their masks must not become one
            stem, number = f"{image.stem}-{number}", number + 1
        taken.add(stem.casefold())
        pieces.append(Piece(image, mask, sha256, stem))
    return Gathered(pieces, there)


def _files(
    workspace: Workspace, sources: Sequence[str | Path], masks: Path | None, opened_sources: ExitStack
) -> list[Path]:
    found: dict[Path, None] = {}
    for given in sources:
        text = str(given)
        from_bucket = text.startswith(SCHEME)
        path = opened_sources.enter_context(opened(workspace, text)).folder if from_bucket else Path(given)
        if path.is_dir():
            inner = [file for file in sorted(path.rglob("*")) if file.is_file() and is_image_name(file)]
            if masks is not None:
                inner = [file for file in inner if not file.is_relative_to(masks)]
            if not inner:
                raise FlawlineError(
                    f"{text}: no image in this folder", "name images, or a folder with images"
                )
        elif path.is_file():
            inner = [path]
        else:
            raise FlawlineError(f"{text}: no such file or folder", "name images, or a folder with images")
        if any(file.resolve().is_relative_to(workspace.data.resolve()) for file in inner):
            raise FlawlineError(f"{text} lies inside {workspace.data}", "name the place the images come from")
        found.update(dict.fromkeys(inner))
    return list(found)


def _check(settings: Settings, image: Path, mask: Path | None) -> None:
    """The rules that the line has for an image, before it is one of the line's."""
    shown, problem, _ = examine(image, settings.data.max_pixels)
    if problem or shown is None:
        raise FlawlineError(f"{image}: {problem}", "replace or leave out the image")
    least, most = settings.checks.min_side, settings.checks.max_side
    if min(shown) < least or max(shown) > most:
        raise FlawlineError(
            f"{image}: {shown[0]}×{shown[1]} pixels, not {least} to {most}",
            "resize the image, or change checks.min_side or checks.max_side",
        )
    fault = examine_mask(mask, settings.data.max_pixels).fits(shown) if mask else None
    if fault:
        raise FlawlineError(f"mask {mask} {fault}", "replace the mask")


def _known(workspace: Workspace, settings: Settings, place: Place) -> dict[str, str]:
    """{sha256: image} of all data sets in use and of the place's own."""
    names = sorted({*settings.data.all, place.dataset})
    there = [name for name in names if (workspace.data / name).is_dir()]
    table = build_manifest(workspace.data, there, settings.data.max_pixels)
    return {sha: image for sha, image in zip(table["sha256"], table["image"], strict=True) if sha}


def _categories(workspace: Workspace, dataset: str, only: str | None = None) -> list[str]:
    found = []
    for folder in sorted((workspace.data / dataset).glob(only or "[!.]*")):
        if (folder / "train" / GOOD).is_dir() or (folder / "test" / GOOD).is_dir():
            found.append(folder.name)
    return found


def _is_part(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0*?[]")
