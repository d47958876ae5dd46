"""Which images to look at: the best, the typical and the worst answers of a prompt set."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

KINDS = ("best", "typical", "worst")


@dataclass(frozen=True)
class Case:
    """One picked image: its kind, its rank within the kind (from 1) and its row in the scores table."""

    kind: str
    number: int
    row: int


def ease(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How well each image of one category is told from the other class: 1 easy, 0 hopeless.

    For an anomalous image the share of good images that score lower, for a good one the share of anomalous
    images that score higher; ties count half; 0.5 where the other class is absent.

    Args:
        labels: [n] 0 or 1.
        scores: [n].
    """
    result = np.full(len(scores), 0.5)
    for label in (0, 1):
        own, other = labels == label, np.sort(scores[labels != label])
        if other.size:
            left = np.searchsorted(other, scores[own], side="left")
            right = np.searchsorted(other, scores[own], side="right")
            share = (left + right) / (2 * other.size)
            result[own] = share if label else 1 - share
    return result


def pick_cases(scores: pd.DataFrame, localisation: np.ndarray, count: int) -> list[Case]:
    """Pick up to `count` images of each kind; none twice.

    best: anomalous images, most clearly separated and best localised. typical: anomalous images in the
    middle of that order. worst: the least separated, real mistakes first: defects, then up to half as many good images
    (false alarms), so that both kinds of mistake are seen. Within a kind the
    categories take turns, so that one bad category does not fill the page. Ties end at the image path.

    Args:
        scores: the scores table (category, label, image, image_score).
        localisation: [n] 0..1, pixel AUROC of the image alone; 0.5 where unknown.
        count: pictures of each kind.
    """
    labels, values = scores["label"].to_numpy(), scores["image_score"].to_numpy(dtype=np.float64)
    categories, separated = scores["category"].to_numpy(), np.zeros(len(scores))
    distance = np.zeros(len(scores))
    for category in sorted(set(categories)):
        rows = categories == category
        separated[rows] = ease(labels[rows], values[rows])
        spread = float(np.std(values[rows])) or 1.0
        towards = np.where(labels[rows] == 1, 1, -1)
        distance[rows] = towards * (values[rows] - np.median(values[rows])) / spread
    order = scores.assign(row=np.arange(len(scores)), ease=separated, place=localisation, distance=distance)
    order = order.sort_values(["ease", "place", "distance", "image"], ascending=[False, False, False, True])
    anomalous = order[order["label"] == 1]
    middle = (len(anomalous) - 1) / 2
    by_middle = np.argsort(np.abs(np.arange(len(anomalous)) - middle), kind="stable")
    worst = order.sort_values(["ease", "distance", "image"])
    halves = {label: worst[worst["label"] == label] for label in (1, 0)}
    queues = {"worst": worst, "best": anomalous, "typical": anomalous.iloc[by_middle]}
    picked: dict[str, list[int]] = {}
    taken: set[int] = set()
    for kind, queue in queues.items():
        if kind == "worst":
            alarms = _take_turns(halves[0], count // 2, True)
            picked[kind] = _take_turns(halves[1], count - len(alarms), True) + alarms
        else:
            picked[kind] = _take_turns(queue[~queue["row"].isin(taken)], count, False)
        taken.update(picked[kind])
    return [Case(kind, number, row) for kind in KINDS for number, row in enumerate(picked[kind], 1)]


def _take_turns(queue: pd.DataFrame, count: int, mistakes_first: bool) -> list[int]:
    turn = queue.groupby("category", sort=True).cumcount()
    calm = (queue["ease"] >= 0.5) if mistakes_first else False
    ordered = queue.assign(turn=turn, calm=calm).sort_values(["calm", "turn"], kind="stable")
    return ordered["row"].head(count).tolist()
