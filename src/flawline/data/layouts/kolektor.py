"""KolektorSDD (Tabernik et al., 2020) and KolektorSDD2 (Božič et al., 2021)."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from flawline.data.images import load_mask, size
from flawline.data.layouts.base import GOOD, Record, left_out, register
from flawline.data.layouts.listing import folders, images
from flawline.errors import FlawlineError
from flawline.progress import track

PIECES = 3
TEST_SHARE, SPLIT_SEED = 0.25, 42  # of the good pieces: the split of the anomaly-detection papers
_DEFECT = "defect"
_ITEM = re.compile(r"kos\d+", re.IGNORECASE)
_LABEL, _TRUTH = "_label", "_GT"


@register
class Ksdd:
    """kosNN/PartK.jpg and kosNN/PartK_label.bmp become pieces: three of equal height, one below the other.

    A piece is defective where its part of the label is marked anywhere. Good pieces, sorted by name, are split by
    scikit-learn's `train_test_split` (test_size 0.25, random_state 42); all defective ones test. The images of one
    item (kosNN) are a group.
    """

    name = "ksdd"
    expects = "kos<NN>/Part<K>.jpg with kos<NN>/Part<K>_label.bmp"
    licence = "CC BY-NC-SA 4.0"
    category = "electrical_commutators"

    def matches(self, root: Path) -> bool:
        return any(
            _ITEM.fullmatch(folder.name) and any(p.stem.endswith(_LABEL) for p in images(folder))
            for folder in folders(root)
        )

    def records(self, root: Path) -> Iterator[Record]:
        from sklearn.model_selection import train_test_split

        items = [folder for folder in folders(root) if _ITEM.fullmatch(folder.name)]
        parts = [pair for folder in items for pair in _pairs(folder, _LABEL)]
        pieces = [
            piece for image, label in track(parts, "looking for defects") for piece in _cut(image, label)
        ]
        good = [place for place, piece in enumerate(pieces) if piece.defect == GOOD]
        if len(good) < 2:
            raise FlawlineError(
                f"{root} has {len(good)} good pieces: too few to split", "complete the data set"
            )
        _, tested = train_test_split(good, test_size=TEST_SHARE, random_state=SPLIT_SEED)
        tests = set(tested)
        for place, piece in enumerate(pieces):
            split = "test" if piece.defect != GOOD or place in tests else "train"
            yield Record(self.category, split, *piece.rest)

    def facts(self, root: Path, records: list[Record]) -> dict[str, Any]:
        """How the pieces were made and split."""
        return {"pieces": {"rows": PIECES, "good_test_share": TEST_SHARE, "split_seed": SPLIT_SEED}}


@register
class Ksdd2:
    """train/ and test/ with NNNNN.png and NNNNN_GT.png each; an image is defective where its GT is marked.

    The published sides are kept. Training is on good images alone: the defective ones of train/ are left out.
    """

    name = "ksdd2"
    expects = "train/<NNNNN>.png with train/<NNNNN>_GT.png, and the same in test/"
    licence = "CC BY-NC-SA 4.0"
    category = "surface"

    def matches(self, root: Path) -> bool:
        sides = [root / side for side in ("train", "test") if (root / side).is_dir()]
        return bool(sides) and all(any(p.stem.endswith(_TRUTH) for p in images(side)) for side in sides)

    def records(self, root: Path) -> Iterator[Record]:
        for split in ("train", "test"):
            for image, truth in track(_pairs(root / split, _TRUTH), f"looking for defects in {split}"):
                if not load_mask(truth).any():
                    yield Record(self.category, split, GOOD, image)
                elif split == "test":
                    yield Record(self.category, split, _DEFECT, image, truth)

    def facts(self, root: Path, records: list[Record]) -> dict[str, Any]:
        """How many images were left out."""
        every = sum(len(_pairs(root / split, _TRUTH)) for split in ("train", "test"))
        return left_out("defective training images", every - len(records))


class _Piece:
    """A third of an image: `defect`, and what a Record holds from there on."""

    def __init__(self, image: Path, label: Path, marked: bool, number: int, box: tuple[int, int, int, int]):
        self.defect = _DEFECT if marked else GOOD
        group = image.parent.name
        name = f"{group}_{image.stem}_{number}"
        self.rest = (self.defect, image, label if marked else None, group, name, box)


def _cut(image: Path, label: Path) -> list[_Piece]:
    """The pieces of one image, from the top; where the height has no third, they differ by a row."""
    mask = load_mask(label)
    height, width = mask.shape
    if size(image) not in (None, (width, height)):
        raise FlawlineError(f"{label} is not as large as {image.name}", "restore the published files")
    edges = [height * i // PIECES for i in range(PIECES + 1)]
    return [
        _Piece(image, label, bool(mask[top:bottom].any()), i, (0, top, width, bottom))
        for i, (top, bottom) in enumerate(pairwise(edges))
    ]


def _pairs(folder: Path, ending: str) -> list[tuple[Path, Path]]:
    """(image, label) of a folder that holds both, sorted; the label's stem is the image's and `ending`.

    Raises:
        FlawlineError: an image has no label: it cannot be known whether it is good.
    """
    shown = images(folder)
    labels = {path.stem.removesuffix(ending): path for path in shown if path.stem.endswith(ending)}
    found = []
    for image in shown:
        if image.stem.endswith(ending):
            continue
        if image.stem not in labels:
            raise FlawlineError(f"{image} has no label {image.stem}{ending}", "restore the file")
        found.append((image, labels[image.stem]))
    return found
