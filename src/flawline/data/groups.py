"""groups.csv: which images of a data set belong together (views of one part, near-duplicates).

Two columns, `image` (POSIX path relative to the data set's folder) and `group` (any name); images that are not listed
belong to no group. Statistics draw whole groups, because the images of one are not independent.
"""

import csv
import io
from pathlib import Path

from flawline.errors import FlawlineError

GROUPS = "groups.csv"
_HEADER = ["image", "group"]
_REMEDY = "write two columns, image and group, one line an image"


def read_groups(folder: Path) -> dict[str, str]:
    """{image path relative to `folder`: group}; empty where there is no groups.csv.

    Raises:
        FlawlineError: the file is no such table, or gives an image two groups; the message names the line.
    """
    path = folder / GROUPS
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", "save it as UTF-8 text") from error
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise FlawlineError(f"{path} is not CSV: {error}", _REMEDY) from error
    if not rows or rows[0] != _HEADER:
        raise FlawlineError(f"{path}: the first line is not 'image,group'", _REMEDY)
    groups: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise FlawlineError(f"{path}: line {number} does not hold an image and a group", _REMEDY)
        image, group = row
        if groups.setdefault(image, group) != group:
            raise FlawlineError(f"{path}: line {number} gives {image} a second group", "keep one of them")
    return groups


def groups_text(groups: dict[str, str]) -> str:
    """The content of groups.csv, sorted by image."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_HEADER, *sorted(groups.items())])
    return text.getvalue()
