"""BTAD: the beanTech anomaly detection data set (Mishra et al., ISIE 2021)."""

from collections.abc import Iterator
from pathlib import Path

from flawline.data.layouts.base import GOOD, Record, register
from flawline.data.layouts.listing import folders, images, match_masks

_OK, _KO = "ok", "ko"


@register
class Btad:
    """Categories 01, 02, 03; one defect folder without a type. Images are BMP or PNG, and so are masks, whatever
    their image is: they are matched by stem, never by suffix."""

    name = "btad"
    expects = "<category>/train/ok, <category>/test/{ok,ko}, <category>/ground_truth/ko"
    licence = "CC BY-NC-SA 4.0"

    def matches(self, root: Path) -> bool:
        return any((folder / part / _OK).is_dir() for folder in folders(root) for part in ("train", "test"))

    def records(self, root: Path) -> Iterator[Record]:
        for folder in folders(root):
            good = {"train": images(folder / "train" / _OK), "test": images(folder / "test" / _OK)}
            for split, shown in good.items():
                yield from (Record(folder.name, split, GOOD, image) for image in shown)
            bad = images(folder / "test" / _KO)
            masks = match_masks(bad, folder / "ground_truth" / _KO)
            yield from (Record(folder.name, "test", _KO, image, masks.get(image)) for image in bad)
