"""Crops that look alike: average-linkage clusters by cosine distance, and how stable each of them is.

Dimensions: n crops, D joint.
"""

from dataclasses import dataclass

import numpy as np

_SHIFTS = (0.8, 1.25)


@dataclass(frozen=True)
class Cluster:
    """Crops that belong together.

    Attributes:
        members: rows, ascending.
        stability: the smaller of how much of it stays together where the distance is a fifth less or a quarter more:
            the Jaccard index with the cluster there that it has most in common with, 0..1.
    """

    members: tuple[int, ...]
    stability: float


def clusters(vectors: np.ndarray, distance: float, least: int) -> list[Cluster]:
    """Clusters of at least `least` crops, the largest first.

    Two groups are joined while the mean cosine distance between their members is at most `distance`: no number of
    clusters has to be guessed, nothing is drawn at random, and a crop that resembles nothing stays alone.

    Args:
        vectors: [n, D], unit length.
        distance: of scikit-learn's AgglomerativeClustering, average linkage.
        least: smaller ones are left out.
    """
    if len(vectors) < max(2, least):
        return []
    groups = _cut(vectors, distance)
    others = [_cut(vectors, distance * shift) for shift in _SHIFTS]
    found = [
        Cluster(tuple(sorted(group)), min(max(_jaccard(group, one) for one in other) for other in others))
        for group in groups
        if len(group) >= least
    ]
    return sorted(found, key=lambda one: (-len(one.members), one.members))


def _cut(vectors: np.ndarray, distance: float) -> list[frozenset[int]]:
    from sklearn.cluster import AgglomerativeClustering

    tree = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=min(distance, 1.0)
    )
    labels = tree.fit_predict(vectors)
    return [frozenset(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)]


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)
