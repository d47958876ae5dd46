"""Tests of a decision in words: in its reason, in `flawline history N`, and on the report.

Decisions are read back from files, also from those of older versions: what an old test does not say is filled in.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flawline.gate.claim import ALL, COST, MEAN, Claim

_NAMES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "false_alarm_rate": "false-alarm rate",
    "operations": "operations an image",
}


def failing(claims: Iterable[Claim], against: str) -> list[str]:
    """A clause for each kind of claim that does not hold; superiority is left to the caller."""
    missed = [claim for claim in claims if not claim.passed]
    clauses = []
    for claim in missed:
        if claim.claim == "above chance":
            clauses.append(
                f"on {claim.test_set} the {claim.whose} ranks good images above defective ones"
                f" (image AUROC {claim.challenger:.3f}): are its labels right?"
            )
    worse = [claim for claim in missed if claim.claim == "not worse"]
    for bound, ones in _by_bound(worse).items():
        told = "; ".join(f"{_place(one)} ({one.difference:+.3f}, at worst {one.ci_low:+.3f})" for one in ones)
        clauses.append(f"not shown to be within {bound:g} of the {against}: {told}")
    for claim in missed:
        if claim.claim == "false alarms":
            clauses.append(
                f"not shown to raise at most {claim.bound:g} more false alarms"
                f" ({claim.difference:+.3f}, at worst {claim.ci_high:+.3f})"
            )
        elif claim.claim == "cost":
            clauses.append(
                f"an image costs {claim.challenger / claim.champion:.2f} times the operations,"
                f" and {claim.bound:g} times are allowed"
            )
    return clauses


def _by_bound(claims: list[Claim]) -> dict[float, list[Claim]]:
    found: dict[float, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.bound, []).append(claim)
    return found


def _place(claim: Claim) -> str:
    if claim.seed is not None:
        return f"seed {claim.seed} in mean {claim.metric}"
    if claim.defect != ALL:
        return f"{claim.defect} on {claim.test_set}"
    return f"{claim.metric} on {claim.test_set}"


def filled(test: Mapping[str, Any], margin: float | None) -> dict[str, Any]:
    """A test of a decision file with all keys of `Claim`; older files have the first eight."""
    mean = test.get("test_set") == MEAN
    older = {
        "claim": "better" if mean else "not worse",
        "bound": 0.0 if mean else (margin or 0.0),
        "defect": ALL,
        "seed": None,
        "whose": "challenger",
        "p": None,
        "p_holm": None,
        "n_normal": 0,
        "n_anomalous": 0,
        "decides": True,
    }
    return {**older, **test}


def claim_words(test: Mapping[str, Any]) -> str:
    """What a test claims: `boards: image AUROC is not worse by 0.05`."""
    metric, where = _NAMES.get(test["metric"], test["metric"]), _where(test)
    kind, bound = test["claim"], f"{test['bound']:g}"
    if kind == "better":
        return f"{where}: {metric} is better" + ("" if test["decides"] else " (told, not needed)")
    if kind == "above chance":
        return f"{where}: the {test['whose']}'s image AUROC is not below chance"
    if kind == "false alarms":
        return f"{where}: false-alarm rate at the own threshold rises by less than {bound}"
    if kind == "cost":
        return f"an image takes at most {bound} times the operations"
    return f"{where}: {metric} is not worse by {bound}"


def found_words(test: Mapping[str, Any]) -> str:
    """What was found: `0.878 against 0.883: -0.005 (-0.039 to +0.028)`, with p where there is one."""
    if test["metric"] == COST:
        ours, theirs = (f"{test[side] / 1e6:.1f}" for side in ("challenger", "champion"))
        factor = test["challenger"] / test["champion"] if test["champion"] else float("inf")
        return f"{ours} against {theirs} million: {factor:.2f} times"
    told = f"{test['challenger']:.3f} against {test['champion']:.3f}: {test['difference']:+.3f}"
    told += f" ({test['ci_low']:+.3f} to {test['ci_high']:+.3f})"
    if test["p_holm"] is not None:
        shown = "p < 0.001" if test["p_holm"] < 0.001 else f"p {test['p_holm']:.3f}"
        told += f", {shown}" + ("" if test["p_holm"] == test["p"] else " (Holm)")
    return told


def _where(test: Mapping[str, Any]) -> str:
    place = "mean of the test sets" if test["test_set"] == MEAN else str(test["test_set"])
    if test["defect"] != ALL:
        place += f", {test['defect']}"
    return place + ("" if test["seed"] is None else f", worst seed ({test['seed']})")
