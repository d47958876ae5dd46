"""Evaluation folders made from numbers: two classes so many standard deviations apart, the same images for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from flawline.determinism import derived_seed
from flawline.gate.candidate import Candidate
from flawline.gate.claim import Claim
from flawline.gate.decide import Decision, decide
from flawline.settings import GateSettings

BINS = 32
SETTINGS = GateSettings(
    metrics=["image_auroc", "pixel_auroc"], bootstrap=300, margin=0.05, cost_factor=None, type_margin=0.15
)


@dataclass(frozen=True)
class Images:
    """What a test set holds.

    Attributes:
        good: good images a category.
        types: defect type → images a category.
        masks: whether maps are measured.
        draw: names the images: another one, other images.
    """

    good: int = 30
    types: Mapping[str, int] = None  # type: ignore[assignment]
    categories: tuple[str, ...] = ("pcb", "relay")
    masks: bool = True
    draw: int = 0

    @property
    def table(self) -> pd.DataFrame:
        rows = []
        for category in self.categories:
            for defect, count in {"good": self.good, **(self.types or {"crack": 30})}.items():
                for number in range(count):
                    rows.append((f"{category}/test/{defect}/{number:03d}.png", category, defect))
        table = pd.DataFrame(rows, columns=["image", "category", "defect"])
        return table.assign(label=(table["defect"] != "good").astype(int))


def write_evaluation(
    folder: Path,
    test: str,
    images: Images,
    gap: float | Mapping[str, float],
    noise: object = 0,
    own: float = 0.3,
    shift: float = 0.0,
) -> Path:
    """An evaluation folder.

    Args:
        folder: where.
        test, images: the same for all that are compared: an easy image is easy for everyone.
        gap: how far defects lie above good images, in standard deviations; or so for each type.
        noise: names what is this prompt set's own; `own` is how much of it there is.
        shift: of all scores, which changes no ranking.
    """
    table = images.table
    common = np.random.default_rng(derived_seed("images", test, images.draw))
    mine = np.random.default_rng(derived_seed("own", test, images.draw, noise))
    gaps = gap if isinstance(gap, Mapping) else dict.fromkeys(table["defect"], gap)
    far = np.array([gaps.get(d, gaps.get("", 0.0)) if d != "good" else 0.0 for d in table["defect"]])
    n = len(table)
    scores = np.sqrt(1 - own**2) * common.normal(size=n) + own * mine.normal(size=n) + far + shift
    edges = np.linspace(-4, 8, BINS + 1).astype(np.float32)
    wobble = own * mine.normal(size=(n, 1))
    normal = _histograms(common.normal(size=(n, 50)) + wobble) * images.masks
    anomalous = _histograms(common.normal(size=(n, 10)) + far[:, None] + wobble) * images.masks
    anomalous[far == 0] = 0
    table = table.assign(image=f"{test}/" + table["image"], image_score=scores)
    folder.mkdir(parents=True)
    table.to_parquet(folder / "scores.parquet", index=False)
    save_file({"normal": normal, "anomalous": anomalous, "edges": edges}, folder / "histograms.safetensors")
    return folder


def _histograms(pixels: np.ndarray) -> np.ndarray:
    """[n, BINS] int32 of [n, k] pixels between -4 and 8; the few outside count at the ends."""
    bins = np.clip(((pixels + 4) * BINS / 12).astype(int), 0, BINS - 1)
    return (bins[:, :, None] == np.arange(BINS)).sum(axis=1).astype(np.int32)


def candidate(
    root: Path,
    name: str,
    gaps: Mapping[str, float | Mapping[str, float]],
    images: Images | Mapping[str, Images] = Images(),
    seeds: Mapping[int, float] | None = None,
    threshold: float | None = 2.0,
    **how: float,
) -> Candidate:
    """A candidate with three seeds, of which seed 0 would serve.

    Args:
        root, name: where its folders go; the name is also its noise and its sha256.
        gaps: of each test set.
        images: of all test sets, or of each.
        seeds: what is added to the gaps of each seed.
        threshold, how: as on the card, and as for `write_evaluation`.
    """
    described = {"version": "1", "method": "m", "train_set": "castings", "seed": 0, "sha256": name}
    folders: dict[int, dict[str, Path]] = {}
    for seed, more in (seeds or {0: 0.0, 1: 0.0, 2: 0.0}).items():
        for test, gap in gaps.items():
            here = images if isinstance(images, Images) else images[test]
            lifted = {d: g + more for d, g in gap.items()} if isinstance(gap, Mapping) else gap + more
            folder = root / name / str(seed) / test
            folders.setdefault(seed, {})[test] = write_evaluation(
                folder, test, here, lifted, f"{name}/{seed}", **how
            )
    return Candidate(described, folders[0], folders, threshold, 1_000_000)


def judged(root: Path, new: dict, old: dict, settings: GateSettings = SETTINGS, **how: object) -> Decision:
    both = (candidate(root, name, gaps, **how) for name, gaps in (("new", new), ("old", old)))  # type: ignore[arg-type]
    return decide(*both, settings, "r")


def claims(decision: Decision, kind: str, **fields: object) -> list[Claim]:
    return [
        test
        for test in decision.tests
        if test.claim == kind and all(getattr(test, key) == value for key, value in fields.items())
    ]
