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
from flawline.evaluate.bootstrap import PairedResult, interval
from flawline.evaluate.stored import compare_folders
from flawline.settings import GateSettings

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean"
_EVIDENCE = "not enough evidence"


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
    manifest: "pd.DataFrame | None" = None,
) -> Decision:
    """Compare a challenger with the champion, or with the baseline while there is no champion.

    Args:
        challenger: who wants to serve.
        champion: who serves now.
        settings: metrics, margin, confidence, resamples, seed.
        results: SHA-256 of results/metrics.csv, kept in the decision.
        baseline: the hand-written prompts that a first champion must beat.
        manifest: the image table; images of one group are drawn together.

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
    found = _compare(challenger, other, settings, manifest)
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
    challenger: Candidate, other: Candidate, settings: GateSettings, manifest: "pd.DataFrame | None"
) -> dict[tuple[str, str], PairedResult]:
    """Every (test set, metric) that can be computed for both."""
    found: dict[tuple[str, str], PairedResult] = {}
    for test_set in sorted(set(challenger.evaluations) & set(other.evaluations)):
        folders = challenger.evaluations[test_set], other.evaluations[test_set]
        for metric in sorted(set(settings.metrics)):
            seed = derived_seed("gate", settings.seed, test_set, metric)
            pair = compare_folders(*folders, metric, settings.bootstrap, seed, manifest)
            if pair is not None and np.isfinite(pair.difference):
                found[test_set, metric] = pair
    return found


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
