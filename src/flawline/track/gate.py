"""The gate: does a challenger replace the champion? A pure function of evaluation files.

On the same images, by a paired bootstrap: the challenger must not be worse beyond a stated margin in any
metric on any test set, and it must be better in the mean over the test sets. What cannot be shown keeps the
champion.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.evaluate.bootstrap import PairedResult, interval, paired_image_auroc, paired_pixel_auroc
from flawline.evaluate.histograms import PixelHistograms
from flawline.files import read_parquet
from flawline.settings import GateSettings

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean"
_EVIDENCE = "not enough evidence"
_IDENTITY = ["image", "category", "defect", "label"]


@dataclass(frozen=True)
class Candidate:
    """One side of the comparison.

    Attributes:
        described: `{version, method, train_set, seed, sha256}`, as decision files name it.
        evaluations: evaluation folder of each test set (scores.parquet, histograms.safetensors).
    """

    described: dict[str, Any]
    evaluations: Mapping[str, Path]


@dataclass(frozen=True)
class Comparison:
    """One test of the gate; values 0..1, differences challenger - champion."""

    test_set: str
    metric: str
    champion: float
    challenger: float
    difference: float
    ci_low: float
    ci_high: float
    passed: bool


@dataclass(frozen=True)
class Decision:
    """What the gate decided. `record` gives the decision file."""

    champion: dict[str, Any] | None
    challenger: dict[str, Any] | None
    against: str
    tests: tuple[Comparison, ...]
    verdict: str
    reason: str
    margin: float
    confidence: float
    results: str

    def record(self) -> dict[str, Any]:
        """As decisions/NNNN-verdict.json holds it."""
        return {**asdict(self), "tests": [asdict(test) for test in self.tests]}


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    settings: GateSettings,
    results: str,
    baseline: Candidate | None = None,
) -> Decision:
    """Compare a challenger with the champion, or with the baseline while there is no champion.

    Args:
        challenger: who wants to serve.
        champion: who serves now.
        settings: metrics, margin, confidence, resamples, seed.
        results: SHA-256 of results/metrics.csv, kept in the decision.
        baseline: the hand-written prompts that a first champion must beat.

    Raises:
        FlawlineError: the two were not evaluated on the same images.
    """
    other = champion or baseline
    against = "champion" if champion else f"baseline {settings.baseline}"

    def decision(verdict: str, reason: str, tests: tuple[Comparison, ...] = ()) -> Decision:
        return Decision(
            champion=champion.described if champion else None,
            challenger=challenger.described,
            against=against,
            tests=tests,
            verdict=verdict,
            reason=reason,
            margin=settings.margin,
            confidence=settings.confidence,
            results=results,
        )

    if other is None:
        return decision("stay", f"{_EVIDENCE}: no champion, and the {against} was not evaluated")
    found = _compare(challenger, other, settings)
    better = [pair for (_, metric), pair in sorted(found.items()) if metric == settings.better_in]
    if not better:
        return decision(
            "stay", f"{_EVIDENCE}: {settings.better_in} cannot be computed on any test set of both"
        )
    tests = [
        _test(test_set, metric, pair, settings, above=-settings.margin)
        for (test_set, metric), pair in sorted(found.items())
    ]
    mean = _test(MEAN, settings.better_in, _mean(better), settings, above=0.0)
    worse = [
        f"{t.metric} on {t.test_set} ({t.difference:+.3f}, at worst {t.ci_low:+.3f})"
        for t in tests
        if not t.passed
    ]
    gain = f"{mean.difference:+.3f} in mean {mean.metric}, interval {mean.ci_low:+.3f} to {mean.ci_high:+.3f}"
    whole = (*tests, mean)
    if worse:
        return decision(
            "stay", f"not shown to be within {settings.margin} of the {against}: {'; '.join(worse)}", whole
        )
    if not mean.passed:
        return decision("stay", f"not shown to be better than the {against}: {gain}", whole)
    return decision(
        "promote", f"better than the {against} ({gain}) and nowhere worse by {settings.margin}", whole
    )


def _compare(
    challenger: Candidate, other: Candidate, settings: GateSettings
) -> dict[tuple[str, str], PairedResult]:
    """Every (test set, metric) that can be computed for both."""
    found: dict[tuple[str, str], PairedResult] = {}
    for test_set in sorted(set(challenger.evaluations) & set(other.evaluations)):
        one, two = challenger.evaluations[test_set], other.evaluations[test_set]
        scores, order = _by_image(one)
        others, other_order = _by_image(two)
        if not scores[_IDENTITY].equals(others[_IDENTITY]):
            raise FlawlineError(
                f"{one} and {two} were not evaluated on the same images",
                "run the evaluate stage again (dvc repro)",
            )
        labels, categories = scores["label"].to_numpy(), scores["category"].to_numpy(dtype=str)
        if scores.groupby("category")["label"].nunique().max() < 2:
            continue  # good images alone, or defective ones, rank nothing
        for metric in sorted(set(settings.metrics)):
            draw = (settings.bootstrap, derived_seed("gate", settings.seed, test_set, metric))
            pair: PairedResult | None
            if metric == "image_auroc":
                values = (scores["image_score"].to_numpy(), others["image_score"].to_numpy())
                pair = paired_image_auroc(labels, categories, *values, *draw)
            else:
                maps = (_histograms(one, order), _histograms(two, other_order))
                pair = paired_pixel_auroc(labels, categories, *maps, *draw)
            if pair is not None and np.isfinite(pair.difference):
                found[test_set, metric] = pair
    return found


def _by_image(folder: Path) -> tuple["pd.DataFrame", np.ndarray]:
    """The scores sorted by image, so that the draws do not depend on the order of rows; and that order."""
    table = read_parquet(folder / "scores.parquet")
    order = np.argsort(table["image"].to_numpy(dtype=str), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    return table.astype({"image": str, "category": str, "defect": str, "label": int}), order


def _histograms(folder: Path, order: np.ndarray) -> PixelHistograms:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "histograms.safetensors"
    try:
        held = load_file(path)
        histograms = PixelHistograms(held["normal"], held["anomalous"], held["edges"])
    except (OSError, KeyError, SafetensorError) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", "delete it and run its stage again") from error
    if len(histograms.normal) != len(order):
        raise FlawlineError(f"{path} does not belong to the scores beside it", "run their stage again")
    return histograms.rows(order)


def _test(test_set: str, metric: str, pair: PairedResult, settings: GateSettings, above: float) -> Comparison:
    low, high = interval(pair.differences, settings.confidence)
    passed = bool(low > above)  # also False where the interval is not a number
    low, high = (value if np.isfinite(value) else pair.difference for value in (low, high))
    return Comparison(test_set, metric, pair.champion, pair.challenger, pair.difference, low, high, passed)


def _mean(pairs: list[PairedResult]) -> PairedResult:
    """The mean over test sets; their images are drawn independently, so the k-th draws may be averaged."""
    return PairedResult(
        challenger=float(np.mean([pair.challenger for pair in pairs])),
        champion=float(np.mean([pair.champion for pair in pairs])),
        difference=float(np.mean([pair.difference for pair in pairs])),
        differences=np.mean([pair.differences for pair in pairs], axis=0),
    )
