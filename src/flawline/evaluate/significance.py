"""Is one method better than another, or is it these images? Every method against the baseline and the best other.

All comparisons are paired: both sides on the same images, under the same resamples. Image metrics are of the seeds'
mean score of each image, so a row is about the method and not about one lucky seed. Pixel metrics are of each seed's
map, averaged over the seeds within every resample (maps are not kept, so they cannot be averaged).

Dimensions: B bootstrap resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd

from flawline.determinism import derived_seed
from flawline.evaluate.bootstrap import interval, strata_of
from flawline.evaluate.delong import DelongTest, combine, delong_test
from flawline.evaluate.draws import weight_blocks
from flawline.evaluate.groups import groups_of
from flawline.evaluate.histograms import PixelHistograms
from flawline.evaluate.holm import holm
from flawline.evaluate.stored import Stored
from flawline.evaluate.tables import MEAN, read_table
from flawline.evaluate.weighted import weighted_image_metrics, weighted_pixel_metrics
from flawline.settings import EvaluateSettings

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
COLUMNS = (
    "method", "other", "against", "train_set", "test_set", "metric", "value", "other_value", "difference",
    "ci_low", "ci_high", "p_bootstrap", "p_delong", "p_holm", "n_normal", "n_anomalous", "seeds",
)  # fmt: skip
BASELINE, BEST_OTHER = "baseline", "best other"
_CELLS = 1 << 20  # weights at a time: bounds the temporary arrays
_FAMILY = ["method", "other", "against", "train_set", "metric"]


@dataclass(frozen=True)
class Drawn:
    """One metric of one method on one test set, macro mean over categories: its value and [B] resampled values."""

    value: float
    samples: np.ndarray


@dataclass(frozen=True)
class OnTest:
    """A method on a test set: what was drawn of each metric, and what DeLong's test needs.

    Attributes:
        images: columns image, category, defect, label. scores: [n], mean over seeds.
        groups: [n] or None.
        seeds: how many.
        drawn: by metric; one that cannot be computed is absent.
    """

    images: pd.DataFrame
    scores: np.ndarray
    groups: np.ndarray | None
    seeds: int
    drawn: dict[str, Drawn]


def on_test(
    stored: Stored, test: str, settings: EvaluateSettings, manifest: pd.DataFrame, exact: Mapping[str, float]
) -> OnTest:
    """Draw every metric of a method on a test set.

    The draws depend on the test set, its images and the settings alone: those of two methods are paired.

    Args:
        stored: the method's evaluations.
        test: the test set's name.
        settings: resamples and seed.
        manifest: names groups of images.
        exact: metric → exact macro value, mean over seeds. Pixel metrics are drawn from histograms and shifted to it.
    """
    images, scores = stored.images, stored.scores.mean(axis=0)
    groups = groups_of(images["image"], manifest)
    labels, names = images["label"].to_numpy(), images["category"].to_numpy(dtype=str)
    parts: dict[str, list[np.ndarray]] = {}
    for category in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == category)
        if len(set(labels[rows].tolist())) < 2:
            continue
        own = None if groups is None else groups[rows]
        seed = derived_seed("tests", settings.seed, test)
        strata = strata_of(names[rows], labels[rows])
        # The first row counts every image once.
        plain = np.ones((1, len(rows)), dtype=np.int32)
        blocks = chain([plain], weight_blocks(strata, settings.bootstrap, seed, own, cells=_CELLS))
        held = [one.rows(rows) for one in stored.histograms]
        parted = [_measure(labels[rows], scores[rows], held, weights) for weights in blocks]
        found = {metric: np.concatenate([part[metric] for part in parted]) for metric in METRICS}
        for metric in METRICS:
            if np.isfinite(found[metric][0]):
                parts.setdefault(metric, []).append(found[metric])
    drawn = {}
    for metric, values in parts.items():
        mean = np.mean(values, axis=0)
        value = exact.get(metric, float(mean[0])) if metric.startswith("pixel") else float(mean[0])
        drawn[metric] = Drawn(value, mean[1:] + (value - mean[0]))
    return OnTest(images, scores, groups, len(stored.scores), drawn)


def _measure(
    labels: np.ndarray, scores: np.ndarray, held: list[PixelHistograms], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """METRICS [b] of one category's images under weights [b, n]."""
    seeds = [weighted_pixel_metrics(one, weights) for one in held]
    pixels = {metric: np.mean([seed[metric] for seed in seeds], axis=0) for metric in seeds[0]}
    return weighted_image_metrics(labels, scores, weights) | pixels


def compare_methods(
    found: Mapping[tuple[str, str], OnTest], train: str, baseline: str, confidence: float
) -> pd.DataFrame:
    """All paired tests of the methods of one training set.

    Args:
        found: (method, test set) → from `on_test`; every method on the same test sets.
        train: the training set's name.
        baseline: the method that all others are held against, where it is among them.
        confidence: of the intervals.

    Returns:
        Columns COLUMNS. `against` is `baseline`, or `best other`: the other method with the best mean over the test
        sets in that metric (chosen on the same images, which makes the comparison harder, not easier). difference =
        method - other; `p_bootstrap` and `p_delong` (image AUROC alone) are two-sided; `p_holm` is p_delong, or
        p_bootstrap where there is none, corrected for the number of test sets. test_set `mean` is the mean over the
        test sets and stands outside that family.
    """
    methods, tests = (sorted({key[place] for key in found}) for place in (0, 1))
    rows = []
    for metric, method in product(METRICS, methods):
        others = [other for other in methods if other != method]
        pairs = [(baseline, BASELINE)] if baseline in others else []
        if best := _best(found, metric, others, tests):
            pairs.append((best, BEST_OTHER))
        for other, against in pairs:
            place = {
                "method": method,
                "other": other,
                "against": against,
                "train_set": train,
                "metric": metric,
            }
            rows += [place | row for row in _pair(found, metric, method, other, tests, confidence)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return _corrected(table)


def _best(
    found: Mapping[tuple[str, str], OnTest], metric: str, others: list[str], tests: list[str]
) -> str | None:
    means = {}
    for other in others:
        values = [
            found[other, test].drawn[metric].value for test in tests if metric in found[other, test].drawn
        ]
        if values:
            means[other] = float(np.mean(values))
    return max(sorted(means), key=lambda other: means[other], default=None)


def _pair(
    found: Mapping[tuple[str, str], OnTest],
    metric: str,
    method: str,
    other: str,
    tests: list[str],
    confidence: float,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    sides: list[tuple[Drawn, Drawn]] = []
    areas: list[DelongTest | None] = []
    for test in tests:
        one, two = found[method, test], found[other, test]
        if metric not in one.drawn or metric not in two.drawn:
            continue
        labels = one.images["label"].to_numpy()
        area = None
        if metric == "image_auroc":
            names = one.images["category"].to_numpy(dtype=str)
            area = delong_test(labels, names, one.scores, two.scores, one.groups)
        sides.append((one.drawn[metric], two.drawn[metric]))
        areas.append(area)
        size = {"n_normal": int((labels == 0).sum()), "n_anomalous": int((labels == 1).sum())}
        told = _told(*sides[-1], area, confidence)
        rows.append({"test_set": test, **told, **size, "seeds": one.seeds})
    if len(rows) > 1:
        # Test sets are drawn independently, so the k-th draws may be averaged.
        ours, theirs = (
            Drawn(
                float(np.mean([side[place].value for side in sides])),
                np.mean([side[place].samples for side in sides], axis=0),
            )
            for place in (0, 1)
        )
        known = [area for area in areas if area is not None]
        area = None
        if len(known) == len(areas):
            area = combine([one.difference for one in known], [one.error**2 for one in known])
        size = {key: sum(int(str(row[key])) for row in rows) for key in ("n_normal", "n_anomalous")}
        rows.append(
            {"test_set": MEAN, **_told(ours, theirs, area, confidence), **size, "seeds": rows[0]["seeds"]}
        )
    return rows


def _told(ours: Drawn, theirs: Drawn, area: DelongTest | None, confidence: float) -> dict[str, float]:
    samples = ours.samples - theirs.samples
    low, high = interval(samples, confidence)
    return {
        "value": ours.value,
        "other_value": theirs.value,
        "difference": ours.value - theirs.value,
        "ci_low": low,
        "ci_high": high,
        "p_bootstrap": bootstrap_p(samples),
        "p_delong": float("nan") if area is None else area.p,
    }


def bootstrap_p(differences: np.ndarray) -> float:
    """Two-sided p of "no difference": the level at which the percentile interval of the differences just reaches 0.

    Args:
        differences: [B] resampled differences; NaN (a resample without both classes) does not count.

    Returns:
        Between 2 / (B + 1) and 1, never 0: B resamples cannot say more.
    """
    known = differences[np.isfinite(differences)]
    if not known.size:
        return float("nan")
    side = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (known.size + 1))


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(p_holm=float("nan"))
    single = table[table["test_set"] != MEAN]
    for _, family in single.groupby(_FAMILY, sort=True):
        raw = family["p_delong"].fillna(family["p_bootstrap"]).to_numpy(dtype=np.float64)
        table.loc[family.index, "p_holm"] = holm(raw)
    last = table["test_set"] == MEAN
    keys = ["train_set", "metric", "against", "method", "other", "last", "test_set"]
    return table.assign(last=last).sort_values(keys, kind="stable")[list(COLUMNS)].reset_index(drop=True)


def read_tests(path: Path) -> pd.DataFrame:
    """Read a tests.csv.

    Raises:
        FlawlineError: the file is missing or is no such table.
    """
    return read_table(path, "table of tests", COLUMNS, dict.fromkeys(COLUMNS[:6], str), COLUMNS[9:14])
