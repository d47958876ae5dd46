"""The image table: one row an image of the data sets in use; later stages read no other list."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.data.images import DEFAULT_MAX_PIXELS
from flawline.data.layouts import GOOD, Record, read_layout
from flawline.data.memory import ImageMemory
from flawline.errors import FlawlineError
from flawline.progress import track

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "dataset": "str",
    "category": "str",
    "split": "str",
    "defect": "str",
    "label": "int8",
    "image": "str",
    "mask": "str",
    "width": "int32",
    "height": "int32",
    "sha256": "str",
    "problem": "str",
    "group": "str",
}
ORDER = ["dataset", "category", "split", "defect", "image"]
_BATCH = 64  # images a thread takes at a time: handing over one by one costs more than remembering it
_READERS = 4  # threads; Pillow releases the interpreter while it decodes
_LEAVES = "a symbolic link that leaves the data folder"


def build_manifest(
    data_root: Path, datasets: list[str], max_pixels: int = DEFAULT_MAX_PIXELS
) -> "pd.DataFrame":
    """Read the header, the content and the mask of every image of `datasets` (folders in MVTec layout).

    Files that did not change since the last time are remembered (flawline.data.memory), not read again: the table is
    the same either way.

    Args:
        data_root: the folder of the data sets; image and mask paths are POSIX paths relative to it.
        datasets: folder names below `data_root`.
        max_pixels: larger images are not decoded and get a `problem`.

    Returns:
        One row an image with the columns COLUMNS, sorted by ORDER. `mask`, `problem` and `group` are null (ask
        isna()) where there is none; `width` and `height` are 0 where no header can be read; `sha256` is empty where
        nothing was read.

    Raises:
        FlawlineError: a data set is missing or not in MVTec layout.
    """
    rows: list[dict[str, Any]] = []
    memory = ImageMemory(data_root, max_pixels)
    links = _Links(data_root.resolve())
    for dataset in sorted(set(datasets)):
        records = _records(data_root, dataset)
        some = [records[start : start + _BATCH] for start in range(0, len(records), _BATCH)]
        with ThreadPoolExecutor(_READERS) as readers:
            read = readers.map(lambda part: [_row(data_root, record, memory, links) for record in part], some)
            for row in track(chain.from_iterable(read), f"reading images of {dataset}", total=len(records)):
                rows.append({"dataset": dataset, **row})
    memory.save()
    return _table(rows)


def count_images(table: "pd.DataFrame") -> dict[str, dict[str, dict[str, int]]]:
    """{dataset: {category: {"good_train": n, "good_test": n, "<defect>": n}}} of an image table, sorted."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for dataset, category, split, defect in table[["dataset", "category", "split", "defect"]].to_numpy(
        object
    ):
        start = Counter({"good_train": 0, "good_test": 0})
        key = f"good_{split}" if defect == GOOD else defect
        counts.setdefault(dataset, {}).setdefault(category, start)[key] += 1
    return {
        dataset: {category: dict(found) for category, found in sorted(categories.items())}
        for dataset, categories in sorted(counts.items())
    }


def _records(data_root: Path, dataset: str) -> list[Record]:
    folder = data_root / dataset
    if not folder.is_dir():
        present = sorted(path.name for path in data_root.glob("[!.]*") if path.is_dir())
        raise FlawlineError(
            f"data set '{dataset}' is missing: no folder {folder} (there: {', '.join(present) or 'none'})",
            f"run `flawline data add FOLDER --name {dataset}`, or `dvc pull` if it is tracked already",
        )
    return read_layout(folder, "mvtec")[1]


def _row(data_root: Path, record: Record, memory: ImageMemory, links: "_Links") -> dict[str, Any]:
    fault = links.problem(record.image)
    shown, digest = None, ""
    if fault is None:
        try:
            digest, (shown, fault, _) = memory.image(record.image)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
    if fault is None and record.mask is not None and shown is not None:
        bad = links.problem(record.mask) or memory.mask(record.mask).fits(shown)
        fault = f"mask {record.mask.relative_to(data_root).as_posix()} {bad}" if bad else None
    width, height = shown or (0, 0)
    return {
        "category": record.category,
        "split": record.split,
        "defect": record.defect,
        "label": int(record.defect != GOOD),
        "image": record.image.relative_to(data_root).as_posix(),
        "mask": record.mask.relative_to(data_root).as_posix() if record.mask else None,
        "width": width,
        "height": height,
        "sha256": digest,
        "problem": fault,
        "group": record.group,
    }


class _Links:
    """Links inside the data folder are fine; what they lead to outside is nobody's version and never read."""

    def __init__(self, real_root: Path) -> None:
        self._real_root = real_root
        self._folders: dict[Path, bool] = {}  # folder → whether it really lies below the data folder

    def problem(self, path: Path) -> str | None:
        inside = self._folders.get(path.parent)
        if inside is None:
            inside = self._folders[path.parent] = path.parent.resolve().is_relative_to(self._real_root)
        if inside and not path.is_symlink():
            return None
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            return "a symbolic link that leads to itself"
        if not real.is_relative_to(self._real_root):
            return _LEAVES
        return None if real.exists() else "a symbolic link to a file that is missing"


def _table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values(ORDER, kind="stable", ignore_index=True)
