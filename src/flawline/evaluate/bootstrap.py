"""Bootstrap over images: how sure are we of a value, and of a difference on the same images?

Images are resampled, not pixels (pixels of one image are not independent), within each category and label, so
that every resample holds the same mix. Where groups are known (views of one part, near-duplicates), whole groups are
resampled: images that resemble each other say less than as many independent ones, and the interval shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.evaluate.histograms import PixelHistograms
from flawline.evaluate.weighted import weighted_image_metrics, weighted_pixel_metrics


@dataclass(frozen=True)
class PairedResult:
    """A challenger and a champion on the same images, macro mean over categories.

    Attributes:
        challenger, champion: their values, 0..1.
        difference: challenger - champion.
        differences: [samples] the difference in each bootstrap resample.
    """

    challenger: float
    champion: float
    difference: float
    differences: np.ndarray


def resample(
    strata: Sequence[object] | np.ndarray,
    samples: int,
    seed: int,
    groups: Sequence[object] | np.ndarray | None = None,
) -> np.ndarray:
    """How often each image is drawn when every stratum is resampled with replacement.

    Args:
        strata: [n] a name for each image's stratum, for example "bolts/1".
        samples: how many resamples (B).
        seed: of the draw; each stratum has its own stream, so one does not move the others.
        groups: [n] names of groups that are drawn as a whole; null or empty: the image stands for itself. None: no
            image has a group. A group with images of several strata (good and defective views of one part) is drawn
            among the groups with the same set of strata.

    Returns:
        [B, n] int32; without groups each row sums to the stratum's size within a stratum, with them only on average,
        because groups differ in size. A stratum that is a single group does not vary.
    """
    names = np.asarray([str(stratum) for stratum in strata])
    unit = group_numbers(len(names), groups)
    count = int(unit.max(initial=-1)) + 1
    if count == len(names):
        of_unit = names
    else:
        members: list[set[str]] = [set() for _ in range(count)]
        for number, name in zip(unit.tolist(), names.tolist(), strict=True):
            members[number].add(name)
        of_unit = np.asarray(["+".join(sorted(one)) for one in members])
    drawn = np.zeros((samples, count), dtype=np.int32)
    for name in sorted(set(of_unit.tolist())):
        units = np.flatnonzero(of_unit == name)
        random = np.random.default_rng(derived_seed("bootstrap", seed, name))
        drawn[:, units] = random.multinomial(len(units), np.full(len(units), 1 / len(units)), size=samples)
    return drawn if count == len(names) else drawn[:, unit]


def group_numbers(count: int, groups: Sequence[object] | np.ndarray | None) -> np.ndarray:
    """[n] int64: the number of each image's group in the order of first appearance.

    Args:
        count: n.
        groups: [n] names; an image whose name is null or empty is a group of its own. None: all are.
    """
    if groups is None:
        return np.arange(count)
    seen: dict[object, int] = {}
    numbers = np.empty(count, dtype=np.int64)
    for row, name in enumerate(groups):
        missing = name is None or (isinstance(name, float) and np.isnan(name)) or str(name) in ("", "<NA>")
        # A row's own key can never be a name.
        numbers[row] = seen.setdefault((row,) if missing else str(name), len(seen))
    return numbers


def strata_of(categories: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[n] "category/label": what the resampling keeps."""
    return np.asarray(
        [f"{category}/{int(label)}" for category, label in zip(categories, labels, strict=True)]
    )


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval of bootstrap values; (nan, nan) where none is defined."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def paired_image_auroc(
    labels: np.ndarray,
    categories: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    samples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> PairedResult:
    """Image AUROC of two sets of scores of the same images, compared by a paired bootstrap.

    Args:
        labels: [n] 0 or 1.
        categories: [n] str.
        challenger, champion: [n] image scores in the same row order.
        samples: bootstrap resamples.
        seed: of the resampling.
        groups: [n] names of groups that are drawn as a whole within a category, or None; see `resample`.

    Returns:
        The macro mean over the categories that have both classes.

    Raises:
        FlawlineError: no category has both classes.
    """
    truth = np.asarray(labels).astype(int)
    names = np.asarray(categories).astype(str)

    def measure(scores: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weighted_image_metrics(truth[rows], np.asarray(scores)[rows], weights)["image_auroc"]

    everything = np.ones(len(truth), dtype=bool)
    result = _paired(truth, names, challenger, champion, measure, everything, samples, seed, groups)
    if result is None:
        raise FlawlineError(
            "no category of the test images has both good and defective ones, so image AUROC is not defined",
            "add defective (or good) test images",
        )
    return result


def paired_pixel_auroc(
    labels: np.ndarray,
    categories: np.ndarray,
    challenger_hist: PixelHistograms,
    champion_hist: PixelHistograms,
    samples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> PairedResult | None:
    """Pixel AUROC of two sets of maps of the same images, compared by a paired bootstrap over images.

    The two histograms may have different edges: each ranks its own scores.

    Args:
        labels, categories, samples, seed, groups: as for `paired_image_auroc`.
        challenger_hist, champion_hist: [n, bins] each, in the same row order.

    Returns:
        As `paired_image_auroc`; images without pixels (no mask) are left out; None without masks.
    """
    truth = np.asarray(labels).astype(int)
    names = np.asarray(categories).astype(str)
    used = challenger_hist.used & champion_hist.used

    def measure(histograms: PixelHistograms, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weighted_pixel_metrics(histograms.rows(rows), weights)["pixel_auroc"]

    return _paired(truth, names, challenger_hist, champion_hist, measure, used, samples, seed, groups)


def _paired(
    labels: np.ndarray,
    categories: np.ndarray,
    challenger: Any,
    champion: Any,
    measure: Callable[[Any, np.ndarray, np.ndarray], np.ndarray],
    use: np.ndarray,
    samples: int,
    seed: int,
    groups: np.ndarray | None,
) -> PairedResult | None:
    """Both sides under the same weights; `measure(side, rows, weights [B, n])` gives [B] values."""
    new, old, differences = [], [], []
    for category in sorted(set(categories[use].tolist())):
        rows = np.flatnonzero(use & (categories == category))
        if len(set(labels[rows].tolist())) < 2:
            continue
        plain = np.ones((1, len(rows)))
        own = None if groups is None else np.asarray(groups, dtype=object)[rows]
        weights = resample(strata_of(categories[rows], labels[rows]), samples, seed, own)
        new.append(float(measure(challenger, rows, plain)[0]))
        old.append(float(measure(champion, rows, plain)[0]))
        differences.append(measure(challenger, rows, weights) - measure(champion, rows, weights))
    if not differences:
        return None
    ours, theirs = float(np.mean(new)), float(np.mean(old))
    return PairedResult(ours, theirs, ours - theirs, np.mean(differences, axis=0))
