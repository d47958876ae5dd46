"""MVTec AD's layout, and the data sets that are published in it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flawline.data.groups import read_groups
from flawline.data.layouts.base import GOOD, Record, register
from flawline.data.layouts.listing import folders, images, match_masks
from flawline.errors import FlawlineError

_BY_NC_SA = "CC BY-NC-SA 4.0"


class Mvtec:
    """MVTec AD's layout, that of every data set below data/. Registered last: those below are special cases."""

    name = "mvtec"
    expects = (
        "<category>/train/good, <category>/test/{good,<defect>}, "
        "<category>/ground_truth/<defect>/<stem>_mask.png"
    )

    def matches(self, root: Path) -> bool:
        return self._is_category(root) or any(self._is_category(folder) for folder in folders(root))

    def records(self, root: Path) -> Iterator[Record]:
        groups = read_groups(root)
        if not groups:
            yield from self._ungrouped(root)
            return
        for record in self._ungrouped(root):
            yield replace(record, group=groups.get(record.image.relative_to(root).as_posix()))

    def _ungrouped(self, root: Path) -> Iterator[Record]:
        categories = [root] if self._is_category(root) else folders(root)
        for folder in categories:  # without train/good as well: the checks have to see what is missing
            category = folder.resolve().name if folder == root else folder.name
            for defect in folders(folder / "train"):
                if defect.name != GOOD:
                    raise FlawlineError(
                        f"{defect}: training folders hold good images only", f"move it to {folder / 'test'}"
                    )
                yield from (Record(category, "train", GOOD, image) for image in images(defect))
            for defect in folders(folder / "test"):
                shown = images(defect)
                masks = (
                    {} if defect.name == GOOD else match_masks(shown, folder / "ground_truth" / defect.name)
                )
                yield from (Record(category, "test", defect.name, image, masks.get(image)) for image in shown)

    @staticmethod
    def _is_category(folder: Path) -> bool:
        return (folder / "train" / GOOD).is_dir() or (folder / "test" / GOOD).is_dir()


class _Published(Mvtec):
    """A published data set in MVTec layout: known by its categories, of which at least half must be there.

    Validation folders, which some releases of MPDD have, and the black masks of good images, which MAD has, are not
    read: `Mvtec.records` asks for neither.
    """

    categories: frozenset[str]
    licence: str | None = None

    def matches(self, root: Path) -> bool:
        there = {folder.name for folder in folders(root) if self._is_category(folder)}
        return there <= self.categories and 2 * len(there) >= len(self.categories)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@register
class MvtecAd(_Published):
    """MVTec AD itself (Bergmann et al., CVPR 2019): 15 categories."""

    name = "mvtec_ad"
    expects = "the categories of MVTec AD in layout mvtec"
    licence = _BY_NC_SA
    categories = _names(
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush transistor wood zipper"
    )


@register
class Mpdd(_Published):
    """MPDD (Jezek et al., ICUMT 2021): painted metal parts, 6 categories."""

    name = "mpdd"
    expects = "the categories of MPDD (bracket_black, …, tubes) in layout mvtec"
    licence = _BY_NC_SA
    categories = _names("bracket_black bracket_brown bracket_white connector metal_plate tubes")


@register
class DtdSynthetic(_Published):
    """DTD-Synthetic (Aota et al., WACV 2023): drawn defects on textures of DTD; masks have their image's stem."""

    name = "dtd_synthetic"
    expects = "the categories of DTD-Synthetic (Woven_001, …, Matted_069) in layout mvtec"
    categories = _names(
        "Woven_001 Woven_068 Woven_104 Woven_125 Woven_127 Stratified_154 Blotchy_099 Marbled_078 Perforated_037 "
        "Mesh_114 Fibrous_183 Matted_069"
    )


@register
class MadReal(_Published):
    """MAD-Real of the PAD benchmark (Zhou et al., NeurIPS 2023): photographs of 10 toys, masks without `_mask`."""

    name = "mad_real"
    expects = "the toys of MAD-Real (Bear, …, Unicorn) in layout mvtec"
    licence = _BY_NC_SA
    categories = _names("Bear Bird Elephant Parrot Pig Puppy Scorpion Turtle Unicorn Whale")


@register
class MadSim(_Published):
    """MAD-Sim of the PAD benchmark: 20 rendered toys, folders `NNName`; the two digits are not kept."""

    name = "mad_sim"
    expects = "the toys of MAD-Sim (01Gorilla, …, 20Puppy) in layout mvtec"
    licence = _BY_NC_SA
    categories = _names(
        "Gorilla Unicorn Mallard Turtle Whale Bird Owl Sabertooth Swan Sheep Pig Zalika Pheonix Elephant Parrot Cat "
        "Scorpion Obesobeso Bear Puppy"
    )

    def matches(self, root: Path) -> bool:
        there = {folder.name for folder in folders(root) if self._is_category(folder)}
        return bool(there) and all(name[:2].isdecimal() and name[2:] in self.categories for name in there)

    def records(self, root: Path) -> Iterator[Record]:
        for record in super().records(root):
            yield replace(record, category=record.category.lstrip("0123456789"))


@register
class VisaPytorch(Mvtec):
    """VisA as anomalib and AnomalyDINO convert it: `1cls/` in MVTec layout, types lost (`bad`), masks binary."""

    name = "visa_pytorch"
    expects = "1cls/<class>/{train/good,test/{good,bad},ground_truth/bad}"
    licence = "CC BY 4.0"

    def matches(self, root: Path) -> bool:
        return super().matches(root / "1cls")

    def records(self, root: Path) -> Iterator[Record]:
        return super().records(root / "1cls")


register(Mvtec)
