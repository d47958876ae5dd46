"""One test of the gate: what is claimed, on which images, what was found, and whether it holds."""

from dataclasses import dataclass
from typing import Literal

#: stands in `test_set` where the mean over the test sets is meant, as in results/metrics.csv
MEAN = "mean"
#: stands in `defect` where all images take part
ALL = "all"

Kind = Literal["not worse", "better", "above chance", "false alarms", "cost"]
Side = Literal["challenger", "champion"]
IMAGE_AUROC, FALSE_ALARMS, COST = "image_auroc", "false_alarm_rate", "operations"


@dataclass(frozen=True)
class Claim:
    """A test; values 0..1 (operations: a count), differences challenger - champion.

    Attributes:
        test_set: a data set or `mean`.
        metric: image_auroc, pixel_auroc, false_alarm_rate or operations.
        champion: the other side's value, also where that is the baseline; 0.5 where chance is.
        challenger: the challenger's value; of `above chance` that of `whose`.
        difference, ci_low, ci_high: with its interval; of `operations` there is none, all three are the difference.
        passed: whether the claim holds.
        claim: `not worse`: ci_low > -bound. `better`: p_holm <= 1 - confidence and ci_low > bound (0).
            `above chance`: ci_high >= bound (0), so not shown to be below chance. `false alarms`: ci_high < bound.
            `cost`: challenger <= bound * champion.
        bound: the margin or factor.
        defect: a type, or `all`.
        seed: of the challenger, where it is not the one that would serve.
        whose: whose scores an `above chance` is about.
        p, p_holm: of "there is no difference" (two-sided), alone and corrected for its family; null elsewhere.
        n_normal, n_anomalous: images it rests on.
        decides: False for what is told but needed for nothing.
    """

    test_set: str
    metric: str
    champion: float
    challenger: float
    difference: float
    ci_low: float
    ci_high: float
    passed: bool
    claim: Kind
    bound: float
    defect: str = ALL
    seed: int | None = None
    whose: Side = "challenger"
    p: float | None = None
    p_holm: float | None = None
    n_normal: int = 0
    n_anomalous: int = 0
    decides: bool = True
