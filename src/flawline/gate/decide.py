"""Does a challenger replace the champion? A pure function of evaluation files.

What cannot be shown keeps the champion: the challenger must be shown to be no worse beyond a margin on every data set,
on every defect type and with its worst seed; not to raise more false alarms or to cost much more; and to be better in
the mean or on a defect type that the champion never knew. docs/gate.md has the whole procedure and its error rates.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flawline.gate.candidate import Candidate
from flawline.gate.claim import MEAN, Claim
from flawline.gate.claims import Findings, Types, find
from flawline.gate.words import failing
from flawline.settings import GateSettings

if TYPE_CHECKING:
    import pandas as pd

EVIDENCE = "not enough evidence"


@dataclass(frozen=True)
class Decision:
    """What the gate decided. `record` gives the decision file.

    Attributes:
        champion, challenger: `{version, method, train_set, seed, sha256}` or None.
        against: `champion`, or `baseline <method>` while there is no champion.
        tests: every test that was made, also where something else decided.
        verdict, reason: `promote` or `stay`, and why in a sentence.
        margin, confidence: of the settings then.
        results: SHA-256 of results/metrics.csv.
        types: test set → defect type → images: what this challenger knows if it is promoted.
        new_types: [test set, type] that the champion did not know.
        inputs: paths and hashes of all that was read, for `flawline.gate.check`.
    """

    champion: dict[str, Any] | None
    challenger: dict[str, Any] | None
    against: str
    tests: tuple[Claim, ...]
    verdict: str
    reason: str
    margin: float
    confidence: float
    results: str
    types: dict[str, dict[str, int]] = field(default_factory=dict)
    new_types: tuple[tuple[str, str], ...] = ()
    inputs: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """As decisions/NNNN-verdict.json holds it."""
        return {
            **asdict(self),
            "tests": [asdict(test) for test in self.tests],
            "new_types": [list(one) for one in self.new_types],
        }


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    settings: GateSettings,
    results: str,
    baseline: Candidate | None = None,
    manifest: "pd.DataFrame | None" = None,
    known: Types | None = None,
) -> Decision:
    """Compare a challenger with the champion, or with the baseline while there is no champion.

    Args:
        challenger: who wants to serve.
        champion: who serves now.
        settings: metrics, margins, confidence, resamples, counts, seed.
        results: SHA-256 of results/metrics.csv, kept in the decision.
        baseline: the hand-written prompts that a first champion must beat.
        manifest: the image table; images of one group are drawn together.
        known: test set → defect types that the champion's own decision listed; None: no type counts as new.

    Raises:
        FlawlineError: the two were not evaluated on the same images, or a file is missing or broken.
    """
    other = champion or baseline
    against = "champion" if champion else f"baseline {settings.baseline}"
    if other is None:
        found = Findings(lacking=[f"no champion, and the {against} was not evaluated"])
    else:
        found = find(challenger, other, settings, manifest, known if champion else None)
    verdict, reason = _verdict(found, settings, against)
    return Decision(
        champion=champion.described if champion else None,
        challenger=challenger.described,
        against=against,
        tests=tuple(found.claims),
        verdict=verdict,
        reason=reason,
        margin=settings.margin,
        confidence=settings.confidence,
        results=results,
        types=found.types,
        new_types=tuple(found.new),
    )


def undecided(
    challenger: dict[str, Any], champion: dict[str, Any], settings: GateSettings, results: str, why: str
) -> Decision:
    """The decision where the champion cannot be measured at all: it stays."""
    return Decision(
        champion=champion,
        challenger=challenger,
        against="champion",
        tests=(),
        verdict="stay",
        reason=f"{EVIDENCE}: {why}",
        margin=settings.margin,
        confidence=settings.confidence,
        results=results,
    )


def _verdict(found: Findings, settings: GateSettings, against: str) -> tuple[str, str]:
    """The verdict, and in the reason everything that stands against it."""
    needed = [claim for claim in found.claims if claim.decides]
    better = [claim for claim in needed if claim.claim == "better"]
    problems = [f"{EVIDENCE}: {'; '.join(found.lacking)}"] if found.lacking else []
    problems += failing(needed, against)
    gains = [_gain(claim) for claim in better]
    if better and not any(claim.passed for claim in better):
        problems.append(f"not shown to be better than the {against}: {', nor '.join(gains)}")
    if problems:
        return "stay", "; ".join(problems)
    shown = [_gain(claim) for claim in better if claim.passed]
    return (
        "promote",
        f"better than the {against} ({', and '.join(shown)}) and nowhere worse by {settings.margin:g}",
    )


def _gain(claim: Claim) -> str:
    """`+0.101 in mean image_auroc, interval +0.069 to +0.133`."""
    place = (
        f"mean {claim.metric}"
        if claim.test_set == MEAN
        else f"{claim.metric} of the new type {claim.defect} on {claim.test_set}"
    )
    return f"{claim.difference:+.3f} in {place}, interval {claim.ci_low:+.3f} to {claim.ci_high:+.3f}"
