"""Do good images still look, and score, as the known good ones do? Says so, and changes nothing.

Dimensions: n images that came in, m reference images, D joint.
"""

from dataclasses import dataclass

import numpy as np

from flawline.settings.watch import WatchSettings
from flawline.watch.bank import Reference


@dataclass(frozen=True)
class Shift:
    """One two-sample Kolmogorov-Smirnov test.

    Attributes:
        what: `looks` or `scores`.
        distance: between the distributions, 0..1. p: of there being none.
        drifted: whether both are beyond their bounds.
    """

    what: str
    distance: float
    p: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """What is said of the good images: `images` were compared with `reference`; no shifts: `why`."""

    images: int
    reference: int
    shifts: tuple[Shift, ...] = ()
    why: str = ""

    @property
    def drifted(self) -> bool:
        return any(shift.drifted for shift in self.shifts)

    @property
    def text(self) -> str:
        """One line."""
        if self.why:
            return f"drift: not judged, {self.why}"
        told = ", ".join(f"{s.what} D {s.distance:.2f} (p {s.p:.2g})" for s in self.shifts)
        verdict = " and ".join(s.what for s in self.shifts if s.drifted)
        lead = f"drift of the {verdict} of good images" if verdict else "no drift"
        return f"{lead}: {told}, {self.images} images against {self.reference}"


def drift(
    scores: np.ndarray, whole: np.ndarray, reference: Reference | None, threshold: float, watch: WatchSettings
) -> Drift:
    """Compare good images with the reference, in a way that a different mixture of products does not disturb.

    Each image is compared with the product whose reference image is nearest, by ranks within that product: products
    differ in how much their good images vary. *Looks*: the rank of the distance (1 - cosine of CLIP's image features)
    to the nearest reference image, among the distances of the product's images to their nearest other one. *Scores*:
    the rank of the score among the product's. Reference images above the threshold take no part, as they would not
    have counted as good, and neither do products that nothing was nearest to.

    Args:
        scores: [n] of images under the threshold.
        whole: [n, D] image features, unit length.
        reference: good labelled images under the same prompt set; None: there are none.
        threshold: the prompt set's.
        watch: the bounds.
    """
    if reference is None:
        return Drift(len(scores), 0, why="there are no labelled good images (watch.reference)")
    kept = reference.scores <= threshold
    if kept.sum() < watch.drift_least:
        few = int(kept.sum())
        return Drift(len(scores), few, why=f"only {few} labelled good images are under the threshold")
    if len(scores) < watch.drift_least:
        why = f"{len(scores)} good images so far, {watch.drift_least} are needed"
        return Drift(len(scores), int(kept.sum()), why=why)
    known, product, held = reference.whole[kept], reference.product[kept], reference.scores[kept]
    alike = whole @ known.T
    own = np.where(product[:, None] == product, known @ known.T, -1.0)
    np.fill_diagonal(own, -1.0)
    of = product[alike.argmax(1)]
    here = np.isin(product, of)
    far, apart = 1 - alike.max(1), 1 - own.max(1)
    shifts = tuple(
        _shift(what, came, known_ones, watch)
        for what, came, known_ones in (
            ("looks", _ranks(far, of, apart, product), _own_ranks(apart, product)[here]),
            ("scores", _ranks(scores, of, held, product), _own_ranks(held, product)[here]),
        )
    )
    return Drift(len(scores), int(here.sum()), shifts)


def _ranks(values: np.ndarray, of: np.ndarray, others: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Of each value [n] its rank among those `others` [m] that are of its product."""
    return np.array([_rank(value, others[product == one]) for value, one in zip(values, of, strict=True)])


def _own_ranks(values: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Of each reference value [m] its rank among the other ones of its product."""
    places = np.arange(len(values))
    return np.array([_rank(values[k], values[(product == product[k]) & (places != k)]) for k in places])


def _rank(value: float, others: np.ndarray) -> float:
    """Where a value stands among others, 0..1; ties in the middle."""
    below, same = int((others < value).sum()), int((others == value).sum())
    return (below + same / 2 + 0.5) / (len(others) + 1)


def _shift(what: str, came: np.ndarray, reference: np.ndarray, watch: WatchSettings) -> Shift:
    from scipy.stats import ks_2samp

    found = ks_2samp(came, reference, method="asymp")
    distance, p = float(found.statistic), float(found.pvalue)
    return Shift(what, distance, p, distance >= watch.drift_level and p <= watch.drift_p)
