"""Real-IAD (Wang et al., CVPR 2024): five views of every part; JSON files say what trains and what tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flawline.data.layouts.base import GOOD, Record, left_out, register
from flawline.data.layouts.listing import folders, there
from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.settings import describe

_OK = "OK"
_JSONS = "realiad_jsons"
_IMAGES = "realiad_"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    image_path: str
    mask_path: str | None = None
    anomaly_class: str


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    train: list[_Entry]
    test: list[_Entry]


class _RealIad:
    """realiad_<size>/<class>/{OK,NG/<code>}/S<xxxx>/… and <class>.json, whose paths are relative to <class>/.

    The views of one part stand in one folder S<xxxx>: they are a group. Defect folders keep their codes (AK, BX, …),
    vocabulary.yaml has words for them. Classes whose images are not there are passed over.
    """

    jsons: str
    licence = "CC BY-NC-SA 4.0"

    def matches(self, root: Path) -> bool:
        return self._jsons(root) is not None and bool(_image_folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        for name, document in self._documents(root):
            folder = _images_of(root) / name
            for split, entries in (("train", document.train), ("test", document.test)):
                entries = [entry for entry in entries if split == "test" or entry.anomaly_class == _OK]
                told = f"{name}.json"
                shown = there(folder, [entry.image_path for entry in entries], told)
                masks = [entry.mask_path for entry in entries if entry.mask_path]
                masked = dict(zip(masks, there(folder, masks, told), strict=True))
                for entry, image in zip(entries, shown, strict=True):
                    good = entry.anomaly_class == _OK
                    mask = None if good or not entry.mask_path else masked[entry.mask_path]
                    group = image.parent.relative_to(folder.parent).as_posix()
                    yield Record(name, split, GOOD if good else entry.anomaly_class, image, mask, group)

    def facts(self, root: Path, records: list[Record]) -> dict[str, Any]:
        """The size of the images, and how many were left out."""
        every = sum(len(document.train) + len(document.test) for _, document in self._documents(root))
        return {
            "images": _images_of(root).name,
            **left_out("defective training images", every - len(records)),
        }

    def _jsons(self, root: Path) -> Path | None:
        for folder in (root / _JSONS / self.jsons, root / self.jsons):
            if any(folder.glob("*.json")):
                return folder
        return None

    def _documents(self, root: Path) -> Iterator[tuple[str, _Document]]:
        jsons = self._jsons(root)
        for folder in folders(_images_of(root)):
            path = jsons / f"{folder.name}.json" if jsons else root / f"{folder.name}.json"
            if not path.is_file():
                raise FlawlineError(f"{path} is missing", f"restore it, or move {folder} away")
            try:
                yield folder.name, _Document.model_validate(read_json(path))
            except ValidationError as error:
                raise FlawlineError(f"{path}: {describe(error)}", "restore the published file") from error


@register
class RealIad(_RealIad):
    """All five views of every part."""

    name = "realiad"
    jsons = _JSONS
    expects = "realiad_<size>/<class>/{OK,NG}/… and realiad_jsons/realiad_jsons/<class>.json"


@register
class RealIadSingle(_RealIad):
    """One view of every part. Recognised only where the files for all views are missing, or asked for by name."""

    name = "realiad_sv"
    jsons = f"{_JSONS}_sv"
    expects = "realiad_<size>/<class>/{OK,NG}/… and realiad_jsons/realiad_jsons_sv/<class>.json"


def _image_folders(root: Path) -> list[Path]:
    return [f for f in folders(root) if f.name.startswith(_IMAGES) and not f.name.startswith(_JSONS)]


def _images_of(root: Path) -> Path:
    found = _image_folders(root)
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise FlawlineError(f"{root} holds the images in several sizes: {names}", "leave one of them there")
    return found[0]
