"""Two prompt sets on the same images: every quantity that the gate asks about, with its paired bootstrap values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from flawline.determinism import derived_seed
from flawline.evaluate.bootstrap import PairedResult, paired_image_auroc, paired_pixel_auroc
from flawline.evaluate.groups import groups_of
from flawline.evaluate.stored import Stored, read_stored, require_same_images
from flawline.evaluate.thresholds import threshold_metrics
from flawline.gate.candidate import Candidate
from flawline.gate.claim import FALSE_ALARMS, IMAGE_AUROC
from flawline.settings import GateSettings


@dataclass(frozen=True)
class Pair:
    """Challenger and champion on one test set, rows of both sorted by image.

    Attributes:
        test: the test set's name.
        challenger, champion: the prompt sets that would serve and that serve.
        seeds: evaluation folder of every seed of the challenger; read when asked for.
        thresholds: of challenger and champion.
        groups: [n] or None.
    """

    test: str
    challenger: Stored
    champion: Stored
    seeds: Mapping[int, Path]
    thresholds: tuple[float | None, float | None]
    groups: np.ndarray | None
    settings: GateSettings

    @cached_property
    def labels(self) -> np.ndarray:
        return self.challenger.images["label"].to_numpy(dtype=int)

    @cached_property
    def categories(self) -> np.ndarray:
        return self.challenger.images["category"].to_numpy(dtype=str)

    @cached_property
    def defects(self) -> np.ndarray:
        return self.challenger.images["defect"].to_numpy(dtype=str)

    @cached_property
    def types(self) -> dict[str, int]:
        """Defect folders with their numbers of images, sorted."""
        names, counts = np.unique(self.defects[self.labels == 1], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def counts(self, defect: str | None = None) -> tuple[int, int]:
        """Good images and defective ones (of a type)."""
        bad = (self.labels == 1) if defect is None else (self.labels == 1) & (self.defects == defect)
        return int((self.labels == 0).sum()), int(bad.sum())

    def compared(self, metric: str, seed: int | None = None) -> PairedResult | None:
        """The challenger (or one of its seeds) against the champion; None where the metric cannot be computed."""
        if not self._ranked(np.ones(len(self.labels), dtype=bool)):
            return None
        ours, draw = self.challenger if seed is None else self._of_seed(seed), self._draw(metric)
        where = self.labels, self.categories
        if metric == IMAGE_AUROC:
            scores = ours.scores[0], self.champion.scores[0]
            return _known(paired_image_auroc(*where, *scores, *draw, groups=self.groups))
        maps = ours.histograms[0], self.champion.histograms[0]
        return _known(paired_pixel_auroc(*where, *maps, *draw, groups=self.groups))

    def of_type(self, defect: str) -> PairedResult | None:
        """Image AUROC of one type against the good images of the products that have it."""
        rows = (self.labels == 0) | (self.defects == defect)
        return self._ranked_scores(
            self.challenger.scores[0], self.champion.scores[0], rows, self._draw(IMAGE_AUROC, defect)
        )

    def above_chance(self, side: Stored) -> PairedResult | None:
        """Image AUROC against scores that say nothing: 0.5 in every draw."""
        rows, silent = np.ones(len(self.labels), dtype=bool), np.zeros(len(self.labels))
        return self._ranked_scores(side.scores[0], silent, rows, self._draw("chance"))

    def false_alarms(self) -> PairedResult | None:
        """Share of good images above each side's own threshold; None without thresholds or good images."""
        ours, theirs = self.thresholds
        if ours is None or theirs is None or not (self.labels == 0).any():
            return None
        found = [
            threshold_metrics(
                self.labels,
                side.scores[0],
                self.categories,
                self.defects,
                value,
                *self._draw(FALSE_ALARMS),
                groups=self.groups,
            )["mean", "all", FALSE_ALARMS]
            for side, value in ((self.challenger, ours), (self.champion, theirs))
        ]
        one, other = found
        return PairedResult(one.value, other.value, one.value - other.value, one.samples - other.samples)

    def _of_seed(self, seed: int) -> Stored:
        found = read_stored([self.seeds[seed]])
        require_same_images(self.challenger.images, found.images, Path(self.test), self.seeds[seed])
        return found

    def _ranked_scores(
        self, ours: np.ndarray, theirs: np.ndarray, rows: np.ndarray, draw: tuple[int, int]
    ) -> PairedResult | None:
        if not self._ranked(rows):
            return None
        groups = None if self.groups is None else self.groups[rows]
        where = self.labels[rows], self.categories[rows]
        return _known(paired_image_auroc(*where, ours[rows], theirs[rows], *draw, groups=groups))

    def _ranked(self, rows: np.ndarray) -> bool:
        """Good images alone, or defective ones, rank nothing."""
        table = pd.DataFrame({"category": self.categories[rows], "label": self.labels[rows]})
        return bool(len(table)) and int(table.groupby("category")["label"].nunique().max()) == 2

    def _draw(self, *what: str) -> tuple[int, int]:
        """Resamples and their seed: the same for every seed of the challenger, so that seeds are compared alike."""
        return self.settings.bootstrap, derived_seed("gate", self.settings.seed, self.test, *what)


def read_pairs(
    challenger: Candidate, champion: Candidate, settings: GateSettings, manifest: "pd.DataFrame | None"
) -> Iterator[Pair]:
    """Both sides on every test set that both have, sorted by name, one at a time.

    Raises:
        FlawlineError: a file is missing or broken, or two evaluations are of other images.
    """
    for test in sorted(set(challenger.evaluations) & set(champion.evaluations)):
        folders = challenger.evaluations[test], champion.evaluations[test]
        ours, theirs = (read_stored([folder]) for folder in folders)
        require_same_images(ours.images, theirs.images, *folders)
        seeds = {seed: found[test] for seed, found in sorted(challenger.seeds.items()) if test in found}
        groups = None if manifest is None else groups_of(ours.images["image"], manifest)
        thresholds = challenger.threshold, champion.threshold
        yield Pair(test, ours, theirs, seeds, thresholds, groups, settings)


def mean_of(parts: list[PairedResult]) -> PairedResult:
    """The mean over test sets; their images are drawn independently, so the k-th draws may be averaged."""
    return PairedResult(
        challenger=float(np.mean([part.challenger for part in parts])),
        champion=float(np.mean([part.champion for part in parts])),
        difference=float(np.mean([part.difference for part in parts])),
        differences=np.mean([part.differences for part in parts], axis=0),
    )


def _known(found: PairedResult | None) -> PairedResult | None:
    return found if found is not None and np.isfinite(found.difference) else None
