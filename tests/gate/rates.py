"""How often the gate is wrong: many challengers whose true quality is known, each on images and seeds of its own.

A champion and a challenger are two draws from the same kind of detector: an image is as hard for both as their common
part says, and each seed adds noise of its own. The AUROC that they would reach on endlessly many images is given;
what the gate sees is test sets of the sample sets' sizes. As a script it prints the table of docs/gate.md:

    PYTHONPATH=tests python -m gate.rates 400
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.stats import norm

from flawline.gate.candidate import Candidate
from flawline.gate.decide import Decision, decide
from flawline.settings import GateSettings
from gate.made import Images, write_evaluation

#: like the sample sets: three products, 16 good images each, one type that all have and two that are too rare to test
SAMPLE = Images(good=16, types={"scratch": 7, "dent": 6, "stain": 6}, categories=("a", "b", "c"))
LARGE = Images(good=64, types={"scratch": 28, "dent": 24, "stain": 24}, categories=("a", "b", "c"))
SETTINGS = GateSettings(metrics=["image_auroc", "pixel_auroc"], margin=0.05, cost_factor=None, bootstrap=500)


@dataclass(frozen=True)
class Constellation:
    """What is true.

    Attributes:
        name: in words.
        champion: image AUROC of the champion on endlessly many images. better: how much better the challenger is.
        own: what part of a score is not shared: 0.3 for one method tuned twice, 0.7 for two methods.
        images: sizes of each of the two test sets.
        new: a type that the champion did not know is among them.
    """

    name: str
    champion: float = 0.85
    better: float = 0.0
    own: float = 0.5
    images: Images = SAMPLE
    new: bool = False


EQUAL = (
    Constellation("equal, one method tuned twice", own=0.3),
    Constellation("equal, two methods", own=0.7),
    Constellation("equal, both poor", champion=0.7),
    Constellation("equal, both good", champion=0.95),
    Constellation("equal, with a new type", new=True),
    Constellation("equal, test sets four times as large", images=LARGE),
)
UNEQUAL = (
    Constellation("worse by 0.10", better=-0.10),
    Constellation("worse by 0.05", better=-0.05),
    Constellation("worse by 0.03", better=-0.03),
    Constellation("better by 0.03", better=0.03),
    Constellation("better by 0.05", better=0.05),
    Constellation("better by 0.10", better=0.10),
    Constellation("better by 0.03, four times the images", better=0.03, images=LARGE),
    Constellation("better by 0.05, four times the images", better=0.05, images=LARGE),
    Constellation("better by 0.10, four times the images", better=0.10, images=LARGE),
)


def trial(one: Constellation, number: int, settings: GateSettings = SETTINGS) -> Decision:
    """A champion and a challenger of three seeds on images that no other trial has."""
    known = {
        test: [d for d in (one.images.types or {}) if not (one.new and d == "scratch")] for test in TESTS
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        old = _side(root / "old", one, one.champion, number, seeds=1)
        new = _side(root / "new", one, one.champion + one.better, number, seeds=3)
        return decide(new, old, settings, "r", known=known)


TESTS = ("boards", "fabrics")


def _side(root: Path, one: Constellation, auroc: float, number: int, seeds: int) -> Candidate:
    # Two unit normals so far apart have this area; the threshold lets 5 % of good images pass for defective.
    gap = float(norm.ppf(auroc) * 2**0.5)
    images = replace(one.images, draw=number)
    folders = {
        seed: {
            test: write_evaluation(root / str(seed) / test, test, images, gap, f"{root.name}/{seed}", one.own)
            for test in TESTS
        }
        for seed in range(seeds)
    }
    return Candidate({"sha256": root.name}, folders[0], folders, float(norm.ppf(0.95)))


def quick(one: Constellation) -> Constellation:
    """The same without maps."""
    return replace(one, images=replace(one.images, masks=False))


def promoted(one: Constellation, trials: int, settings: GateSettings = SETTINGS) -> int:
    """How many of the first `trials` challengers were promoted."""
    return sum(trial(one, number, settings).verdict == "promote" for number in range(trials))


def main(trials: int) -> None:
    """Print the table, one line a constellation; of the large test sets a quarter of the trials."""
    for one in (*EQUAL, *UNEQUAL):
        count = trials // 4 if one.images is LARGE else trials
        yes = promoted(one, count)
        print(f"| {one.name} | {yes} of {count} | {100 * yes / count:.1f} % |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
