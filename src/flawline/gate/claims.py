"""From paired evidence to claims: which tests there are, and when each holds. docs/gate.md says why these."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from flawline.evaluate.bootstrap import PairedResult, interval
from flawline.evaluate.holm import holm
from flawline.evaluate.significance import bootstrap_p
from flawline.evaluate.stored import Stored
from flawline.gate.candidate import Candidate
from flawline.gate.claim import ALL, COST, FALSE_ALARMS, IMAGE_AUROC, MEAN, Claim, Kind, Side
from flawline.gate.evidence import Pair, mean_of, read_pairs
from flawline.settings import GateSettings

#: test set → its defect types, as a decision keeps them
Types = Mapping[str, Collection[str]]


@dataclass
class Findings:
    """What two prompt sets on the same images say.

    Attributes:
        claims: every test that could be made, in the order of the test sets, then those over all of them.
        lacking: why the evidence is not enough, in clauses; empty where it is.
        sizes: test set → good and defective images.
        types: test set → type → number of images.
        new: (test set, type) that the champion did not know, with enough images.
    """

    claims: list[Claim] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    types: dict[str, dict[str, int]] = field(default_factory=dict)
    new: list[tuple[str, str]] = field(default_factory=list)


def find(
    challenger: Candidate,
    champion: Candidate,
    settings: GateSettings,
    manifest: pd.DataFrame | None,
    known: Types | None,
) -> Findings:
    """Make every test.

    Args:
        challenger, champion: the two sides; the champion may be the baseline.
        settings: margins, confidence, resamples.
        manifest: the image table, for groups; or None.
        known: types that the champion's own decision listed; None: nobody knows, so no type counts as new.

    Raises:
        FlawlineError: a file is missing or broken, or the two were not evaluated on the same images.
    """
    found = Findings()
    _compare_seeds(challenger, settings, found)
    better: dict[str, PairedResult] = {}
    alarms: list[PairedResult] = []
    by_seed: dict[int, list[PairedResult]] = {seed: [] for seed in sorted(challenger.seeds)}
    for pair in read_pairs(challenger, champion, settings, manifest):
        found.types[pair.test], found.sizes[pair.test] = pair.types, pair.counts()
        _on_test_set(pair, settings, known, found)
        if one := pair.compared(settings.better_in):
            better[pair.test] = one
        if rate := pair.false_alarms():
            alarms.append(rate)
        for seed, parts in by_seed.items():
            if seed in pair.seeds and (part := pair.compared(settings.better_in, seed)):
                parts.append(part)
    _compare_sets(challenger, champion, found)
    if not better:
        found.lacking.append(f"{settings.better_in} cannot be computed on any test set of both")
        return found
    _superiority(better, settings, found)
    _worst_seed(by_seed, len(better), settings, found)
    _false_alarms(alarms, settings, found)
    _cost(challenger, champion, settings, found)
    return found


def _on_test_set(pair: Pair, settings: GateSettings, known: Types | None, found: Findings) -> None:
    """Counts, chance, every metric, every type with enough images."""
    good, bad = pair.counts()
    if min(good, bad) < settings.min_images:
        found.lacking.append(
            f"{pair.test} has {good} good and {bad} defective images, and {settings.min_images} of each are needed"
        )
    familiar = known is not None and pair.test in known
    # A champion was better than chance where it was promoted; a baseline, or a new data set, need not be.
    sides: list[tuple[Side, Stored]] = [("challenger", pair.challenger)]
    sides += [("champion", pair.champion)] if familiar else []
    for whose, side in sides:
        if above := pair.above_chance(side):
            claim = _claim(pair.test, IMAGE_AUROC, above, settings, "above chance", 0.0)
            found.claims.append(replace(claim, whose=whose, n_normal=good, n_anomalous=bad))
    for metric in sorted(set(settings.metrics)):
        if one := pair.compared(metric):
            claim = _claim(pair.test, metric, one, settings, "not worse", settings.margin)
            found.claims.append(replace(claim, n_normal=good, n_anomalous=bad))
    for defect, count in pair.types.items():
        if count < settings.min_images or (one := pair.of_type(defect)) is None:
            continue
        claim = _claim(pair.test, IMAGE_AUROC, one, settings, "not worse", settings.type_margin)
        claim = replace(claim, defect=defect, n_normal=good, n_anomalous=count)
        found.claims.append(claim)
        if known is not None and defect not in known.get(pair.test, ()):
            found.new.append((pair.test, defect))
            p = bootstrap_p(one.differences)
            found.claims.append(replace(claim, claim="better", bound=0.0, p=p, passed=False))


def _superiority(better: Mapping[str, PairedResult], settings: GateSettings, found: Findings) -> None:
    """Better on each test set (told), and in the mean or on a new type (needed).

    Two families, each with Holm's correction: the test sets; and the mean with the new types, because either of
    these may promote.
    """
    singles = [_better(test, one, settings, found) for test, one in sorted(better.items())]
    if len(singles) > 1:
        found.claims += [replace(one, decides=False) for one in _corrected(singles, settings)]
    fresh = [claim for claim in found.claims if claim.claim == "better" and claim.decides]
    found.claims = [claim for claim in found.claims if claim not in fresh]
    mean = _better(MEAN, mean_of([better[test] for test in sorted(better)]), settings, found)
    found.claims += _corrected([*fresh, mean], settings)


def _better(test: str, one: PairedResult, settings: GateSettings, found: Findings) -> Claim:
    claim = _claim(test, settings.better_in, one, settings, "better", 0.0)
    return _sized(replace(claim, p=bootstrap_p(one.differences)), found)


def _sized(claim: Claim, found: Findings) -> Claim:
    """With the images of its test set, or of all."""
    sizes = [size for name, size in found.sizes.items() if claim.test_set in (MEAN, name)]
    return replace(claim, n_normal=sum(size[0] for size in sizes), n_anomalous=sum(size[1] for size in sizes))


def _corrected(claims: list[Claim], settings: GateSettings) -> list[Claim]:
    """The claims of one family with p_holm, and with it whether each holds."""
    alpha = 1 - settings.confidence
    adjusted = holm([float("nan") if claim.p is None else claim.p for claim in claims])
    return [
        replace(claim, p_holm=float(p), passed=bool(p <= alpha + 1e-12 and claim.ci_low > 0))
        for claim, p in zip(claims, adjusted, strict=True)
    ]


def _worst_seed(
    by_seed: Mapping[int, list[PairedResult]], sets: int, settings: GateSettings, found: Findings
) -> None:
    """The seed with the lowest bound: if it is within the margin, all are."""
    means = {seed: mean_of(parts) for seed, parts in by_seed.items() if len(parts) == sets}
    if missing := [str(seed) for seed in by_seed if seed not in means]:
        found.lacking.append(f"seed {', '.join(missing)} was not evaluated on every test set")
    claims = [
        replace(_claim(MEAN, settings.better_in, one, settings, "not worse", settings.margin), seed=seed)
        for seed, one in means.items()
    ]
    if claims:
        found.claims.append(_sized(min(claims, key=lambda claim: (claim.ci_low, claim.seed)), found))


def _false_alarms(alarms: list[PairedResult], settings: GateSettings, found: Findings) -> None:
    if len(alarms) < len(found.types):
        found.lacking.append("a threshold is not known, or a test set has no good images")
    if alarms:
        mean, bound = mean_of(alarms), settings.false_alarm_margin
        claim = _sized(_claim(MEAN, FALSE_ALARMS, mean, settings, "false alarms", bound), found)
        found.claims.append(replace(claim, n_anomalous=0))


def _cost(challenger: Candidate, champion: Candidate, settings: GateSettings, found: Findings) -> None:
    factor = settings.cost_factor
    if factor is None:
        return
    if challenger.cost is None or champion.cost is None:
        whose = "challenger" if challenger.cost is None else "champion"
        found.lacking.append(f"the operations an image of the {whose} could not be counted")
        return
    ours, theirs = float(challenger.cost), float(champion.cost)
    more, fits = ours - theirs, ours <= factor * theirs
    found.claims.append(Claim(MEAN, COST, theirs, ours, more, more, more, fits, "cost", factor))


def _compare_seeds(challenger: Candidate, settings: GateSettings, found: Findings) -> None:
    if len(challenger.seeds) < settings.min_seeds:
        count = len(challenger.seeds)
        found.lacking.append(
            f"{count} {'seed was' if count == 1 else 'seeds were'} tuned, {settings.min_seeds} are needed"
        )


def _compare_sets(challenger: Candidate, champion: Candidate, found: Findings) -> None:
    """A test set that one of the two lacks is a test that was not made."""
    alone = sorted(set(challenger.evaluations) ^ set(champion.evaluations))
    if alone:
        found.lacking.append(f"{', '.join(alone)} was not evaluated for both")


def _claim(
    test: str, metric: str, pair: PairedResult, settings: GateSettings, kind: Kind, bound: float
) -> Claim:
    low, high = interval(pair.differences, settings.confidence)
    # An interval that is no number shows nothing, except that nothing is below chance.
    holds = {
        "not worse": low > -bound,
        "better": low > bound,
        "above chance": not high < bound,
        "false alarms": high < bound,
    }[kind]
    low, high = (value if np.isfinite(value) else pair.difference for value in (low, high))
    return Claim(
        test,
        metric,
        pair.champion,
        pair.challenger,
        pair.difference,
        low,
        high,
        bool(holds),
        kind,
        bound,
        ALL,
    )
