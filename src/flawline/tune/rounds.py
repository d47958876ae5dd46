"""Rounds of tuning with other anomalies each: which noises a round draws, which it keeps for judging, and its rows.

APT (arXiv 2508.16157) tunes in rounds with diverse noise perturbations (FACT). CHOICE: operator probabilities from
Dirichlet(1) a round, a first round with Gaussian noise alone, the least likely operators kept for judging.

Dimensions: n rows of the whole training set, k picked rows, L levels, N = grid² patches, D joint, S mask side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flawline.determinism import derived_seed
from flawline.prompts.shared.batches import Batch
from flawline.synth.shapes import smooth_noise
from flawline.tune.loop import TuningData

GOOD, ANOMALY = "good", "anomaly"
#: noise on patch features, not on pixels; it needs no synthetic image
EMBEDDING = "embedding"
AREA = (0.01, 0.2)  # of the picture, for embedding noise


@dataclass(frozen=True)
class Round:
    """The probability of each noise that a round uses, and the noises it does not use, which judge its outcome."""

    noises: dict[str, float]
    held_out: tuple[str, ...]


def noises_of(data: TuningData) -> list[str]:
    """The noises of a training set, sorted; `anomaly` where it names none."""
    return sorted(set(_defects(data)) - {GOOD})


def draw_round(present: list[str], held_out: float, seed: int, first: str | None = None) -> Round:
    """Draw a round's noises.

    Args:
        present: all noises there are.
        held_out: share of them that the round leaves out, rounded, but at least one where it is above 0 and there
            is more than one: the least likely ones.
        seed: of the draw.
        first: if there is this noise, the round uses it alone.
    """
    names = sorted(present)
    if first in names:
        return Round({str(first): 1.0}, tuple(name for name in names if name != first and held_out > 0))
    chances = np.random.default_rng(seed).dirichlet(np.ones(len(names)))
    left_out = min(len(names) - 1, max(1, round(held_out * len(names)))) if held_out > 0 else 0
    order = np.argsort(chances)
    used = sorted(order[left_out:].tolist())
    total = float(chances[used].sum())
    noises = {names[k]: float(chances[k]) / total for k in used}
    return Round(noises, tuple(sorted(names[k] for k in order[:left_out].tolist())))


@dataclass(frozen=True)
class Picked(TuningData):
    """Some rows of a training set, copied only batch by batch; a row may stand in it several times.

    `labels` and `defects` are those of the k picks, while `inputs` and `masks` are the whole set's. A pick whose
    defect is `embedding` is a good row that gets noise on its patch features; `labels` counts it as anomalous (it
    takes an anomaly's place in a batch), but its batch label is 0, for its image feature is a good image's.

    Attributes:
        at: row of each pick, int64 [k].
        strengths: of embedding noise, one of which is drawn: length of the noise relative to the feature's.
        seed: of the embedding noise.
    """

    at: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    strengths: tuple[float, ...] = ()
    seed: int = 0

    def rows(self, picked: Tensor) -> Batch:
        whole = TuningData(self.inputs, self.masks, torch.zeros(len(self.inputs), dtype=torch.long))
        batch = whole.rows(self.at[picked])
        defects = [self.defects[k] for k in picked.tolist()]
        noised = [place for place, name in enumerate(defects) if name == EMBEDDING]
        if not noised:
            return replace(batch, labels=self.labels[picked], defects=defects)
        patches, masks = batch.patches.clone(), batch.masks.clone()
        for place in noised:
            seed = derived_seed(EMBEDDING, self.seed, int(picked[place]))
            patches[place], masks[place] = embedding_anomaly(
                patches[place], masks.shape[-1], self.strengths, np.random.default_rng(seed)
            )
        labels = self.labels[picked].clone()
        labels[noised] = 0
        return Batch(replace(batch.inputs, patches=patches), labels, masks, defects)


def pick(
    data: TuningData,
    chances: dict[str, float],
    count: int,
    seed: int,
    strengths: tuple[float, ...] = (),
    good_rows: int | None = None,
) -> Picked:
    """Good rows, and `count` anomalous ones drawn by their noise.

    Within a noise every row comes once before any comes again.

    Args:
        data: the whole training set.
        chances: probability of each noise; `embedding` takes good rows.
        count: of anomalous rows.
        seed: of the draw.
        strengths: of embedding noise.
        good_rows: at most so many good rows; null: all.
    """
    rng = np.random.default_rng(seed)
    names = sorted(chances)
    shares = np.array([chances[name] for name in names])
    counts = rng.multinomial(count, shares / shares.sum())
    defects = np.array(_defects(data))
    good = np.flatnonzero(defects == GOOD)
    kept = good if good_rows is None else np.sort(rng.permutation(good)[:good_rows])
    rows, drawn = [kept], [GOOD] * len(kept)
    for name, wanted in zip(names, counts.tolist(), strict=True):
        of_noise = good if name == EMBEDDING else np.flatnonzero(defects == name)
        turns = -(-wanted // len(of_noise)) if wanted else 0
        rows.append(np.concatenate([rng.permutation(of_noise) for _ in range(turns)] or [good[:0]])[:wanted])
        drawn += [name] * wanted
    return Picked(
        data.inputs,
        data.masks,
        labels=torch.tensor([int(name != GOOD) for name in drawn]),
        defects=drawn,
        at=torch.from_numpy(np.concatenate(rows)),
        strengths=strengths,
        seed=seed,
    )


def embedding_anomaly(
    patches: Tensor, side: int, strengths: tuple[float, ...], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Noise on the patch features of a random smooth region of 1 to 20 % of the picture.

    f' = normalise(f + eta), eta ~ N(0, s²/D), so that s is the noise's expected length; f has length 1.

    Args:
        patches: unit features [L, N, D].
        side: S of the mask.
        strengths: s is drawn from these.
        rng: the source of chance.

    Returns:
        The features [L, N, D] and the mask bool [S, S].
    """
    levels, cells, dim = patches.shape
    grid = round(cells**0.5)
    wanted = max(1, round(float(np.exp(rng.uniform(*np.log(AREA)))) * cells))
    height = smooth_noise((grid, grid), rng.uniform(1.0, max(1.5, grid / 6)), rng).ravel()
    inside = torch.zeros(cells, dtype=torch.bool)
    inside[torch.from_numpy(np.argsort(height)[-wanted:].copy())] = True
    strength = float(rng.choice(strengths))
    noise = torch.from_numpy(rng.standard_normal((levels, wanted, dim)).astype(np.float32))
    out = patches.clone()
    out[:, inside] = F.normalize(patches[:, inside] + noise.to(patches) * strength / dim**0.5, dim=-1)
    mask = F.interpolate(inside.view(1, 1, grid, grid).float(), size=(side, side), mode="nearest")[0, 0] > 0
    return out, mask.to(patches.device)


def in_turn(data: TuningData, batch: int) -> Iterator[Batch]:
    """All rows once, in order, in batches: for judging, not for training."""
    for rows in torch.arange(len(data.labels)).split(batch):
        yield data.rows(rows)


def _defects(data: TuningData) -> list[str]:
    labels = data.labels.tolist()
    if not data.defects:
        return [ANOMALY if label else GOOD for label in labels]
    return [name if label else GOOD for label, name in zip(labels, data.defects, strict=True)]
