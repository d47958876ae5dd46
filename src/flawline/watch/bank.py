"""What is known already: crops of labelled images, and of rejected clusters, that a new crop may resemble.

Dimensions: m known crops, D joint.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flawline.data.images import load_rgb
from flawline.data.layouts import GOOD
from flawline.errors import FlawlineError
from flawline.files import inside
from flawline.settings import Settings
from flawline.watch.crops import box_of, embed
from flawline.watch.state import KNOWN, LIKE_GOOD, LIKE_REJECTED, REJECTED, State
from flawline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from flawline.detector import Detector

#: share of a group's own crops that its bound recognises
_RECOGNISED = 0.95
#: how much farther from the group than those a crop may lie: they were compared with few others
_SLACK = 2.0
_ENOUGH = 5


@dataclass(frozen=True)
class Group:
    """Known crops of one kind.

    Attributes:
        kind: LIKE_GOOD, KNOWN or LIKE_REJECTED: what an image like these is told to be.
        name: `dataset/category/defect`, or `item 3`.
        vectors: [m, D], unit length.
        bound: a crop is like these if its cosine with one of them is at least this.
    """

    kind: str
    name: str
    vectors: np.ndarray
    bound: float


@dataclass(frozen=True)
class Reference:
    """Good labelled images of all watched products, for drift: scores [m], image features [m, D], product [m]."""

    scores: np.ndarray
    whole: np.ndarray
    product: np.ndarray


@dataclass(frozen=True)
class Bank:
    """All groups, and the good images among them."""

    groups: list[Group] = field(default_factory=list)
    reference: Reference | None = None

    def nearest(self, crop: np.ndarray) -> tuple[Group, float] | None:
        """The group with the crop most like this one [D], and their cosine; None for an empty bank."""
        best: tuple[Group, float] | None = None
        for group in self.groups:
            likeness = float((group.vectors @ crop).max())
            if best is None or likeness > best[1]:
                best = group, likeness
        return best

    def explain(self, crop: np.ndarray) -> tuple[str, str] | None:
        """(kind, name) of the group that explains a crop [D], or None where it is unlike all that is known."""
        found = self.nearest(crop)
        if found is None or found[1] < found[0].bound:
            return None
        return found[0].kind, found[0].name

    @property
    def good_centre(self) -> np.ndarray | None:
        """Mean of the good crops [D], or None."""
        good = [group.vectors for group in self.groups if group.kind == LIKE_GOOD]
        return np.concatenate(good).mean(0) if good else None


def bound_of(vectors: np.ndarray, least: float) -> float:
    """How like a group a crop must be: at most twice as far from it as 95 % of its own are from another one of it.

    Never less than `least`: a mixed group must not swallow what is new.
    """
    if len(vectors) < _ENOUGH:
        return least
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1.0)
    own = float(np.quantile(alike.max(1), 1 - _RECOGNISED))
    return max(1 - _SLACK * (1 - own), least)


def make_bank(
    workspace: Workspace,
    settings: Settings,
    detector: "Detector",
    prompts: str,
    state: State,
    say: Callable[[str], None] = lambda _: None,
) -> Bank:
    """The bank under one prompt set; an image that was scored for it before is not scored again.

    Of each category up to `watch.bank` good training images and up to as many of each type, the first by their hash;
    of a type those alone that this prompt set raises the alarm for.

    Args:
        workspace: whose data/.
        settings: of it.
        detector: the prompt set.
        prompts: its sha256.
        state: keeps the scores and features of labelled images.
        say: is told what takes long.

    Raises:
        FlawlineError: a data set of `watch.reference` is missing.
    """
    watch = settings.watch
    chosen = choose(workspace, settings)
    known = state.known(prompts, watch.crop)
    pairs = [(str(image), str(sha)) for image, sha in zip(chosen["image"], chosen["sha256"], strict=True)]
    missing = [pair for pair in pairs if pair[1] not in known]
    if missing:
        say(f"looking at {len(missing)} labelled images with this prompt set first")
        state.drop_known(prompts)
        _score(workspace, settings, detector, prompts, state, missing)
        known = state.known(prompts, watch.crop)
    groups, good = [], []
    for (dataset, category, defect), part in chosen.groupby(["dataset", "category", "defect"], sort=True):
        kind = LIKE_GOOD if defect == GOOD else KNOWN
        rows = [known[sha] for sha in part["sha256"] if sha in known]
        if kind == KNOWN:  # where no alarm was raised the map's peak need not lie on the defect
            rows = [row for row in rows if row[0] > detector.threshold]
        if not rows:
            continue
        vectors = np.stack([vector for _, vector, _ in rows])
        groups.append(Group(kind, f"{dataset}/{category}/{defect}", vectors, bound_of(vectors, watch.like)))
        if kind == LIKE_GOOD:
            good += [(score, whole, f"{dataset}/{category}") for score, _, whole in rows]
    fingerprint = detector.method.backbone.fingerprint
    for item in state.items():
        crops = state.crops(fingerprint, item.number) if item.status == REJECTED else []
        if crops:
            vectors = np.stack([crop.vector for crop in crops])
            bound = bound_of(vectors, 1 - watch.distance)
            groups.append(Group(LIKE_REJECTED, f"item {item.number}", vectors, bound))
    return Bank(groups, _reference(good))


def choose(workspace: Workspace, settings: Settings) -> "pd.DataFrame":
    """The labelled images of the bank: columns dataset, category, defect, image, sha256; sorted by all of them."""
    import pandas as pd

    from flawline.data.manifest import build_manifest

    names = settings.data.all if settings.watch.reference is None else settings.watch.reference
    there = [name for name in names if (workspace.data / name).is_dir()]
    if settings.watch.reference is not None and len(there) < len(names):
        gone = sorted(set(names) - set(there))[0]
        raise FlawlineError(
            f"watch.reference names '{gone}', which is not below data/", "dvc pull, or correct it"
        )
    columns = ["dataset", "category", "defect", "image", "sha256"]
    if not there:
        return pd.DataFrame(columns=columns)
    table = build_manifest(workspace.data, there, settings.data.max_pixels)
    good = (table["split"] == "train") & (table["label"] == 0)
    table = table[(good | (table["label"] == 1)) & table["problem"].isna()]
    table = table.drop_duplicates("sha256").sort_values(["dataset", "category", "defect", "sha256"])
    return table.groupby(["dataset", "category", "defect"]).head(settings.watch.bank)[columns]


def _score(
    workspace: Workspace,
    settings: Settings,
    detector: "Detector",
    prompts: str,
    state: State,
    images: Iterable[tuple[str, str]],
) -> None:
    """Score labelled images batch by batch, and keep what the bank needs of them."""
    from flawline.progress import track
    from flawline.serve.ahead import in_batches

    batches = list(in_batches(images, settings.features.batch))
    for batch in track(batches, "labelled images, in batches"):
        pictures = [load_rgb(inside(workspace.data, image), settings.data.max_pixels) for image, _ in batch]
        results = detector.score(pictures)
        boxes = [box_of(r.map, p.size, settings.watch.crop) for r, p in zip(results, pictures, strict=True)]
        cut = embed(detector.method.backbone, [p.crop(box) for p, box in zip(pictures, boxes, strict=True)])
        whole = embed(detector.method.backbone, pictures)
        with state.writing():
            for (_, sha256), result, one, all_of_it in zip(batch, results, cut, whole, strict=True):
                state.add_known(sha256, prompts, settings.watch.crop, float(result.score), one, all_of_it)


def _reference(good: list[tuple[float, np.ndarray, str]]) -> Reference | None:
    if not good:
        return None
    return Reference(
        np.array([score for score, _, _ in good]),
        np.stack([whole for _, whole, _ in good]),
        np.array([product for _, _, product in good]),
    )
