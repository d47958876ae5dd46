"""What was not computed, and why: a metric without its conditions is absent from the table, never zero."""

from typing import Any

import pandas as pd

from flawline.evaluate.measure import NO_MASK, Measurement

ABSENT = "absent.json"
NOWHERE = "in no category"
#: what streaming metrics promise
TOLERANCE = 1e-4


class Absences:
    """Collects reasons while a cell is measured; `record` is what absent.json holds."""

    def __init__(self) -> None:
        self._absent: list[dict[str, Any]] = []
        self._rough: list[dict[str, Any]] = []
        self._asked: set[str] = set()
        self._found: set[str] = set()

    def note(self, category: str, defect: str, measured: Measurement, only: tuple[str, ...] = ()) -> None:
        """Note what one group lacks; `only`: the metrics that this group is asked for, default all."""
        reasons: dict[str, list[str]] = {}
        for metric, reason in measured.absent.items():
            if not only or metric in only:
                reasons.setdefault(reason, []).append(metric)
        for reason, metrics in sorted(reasons.items()):
            self._absent.append(
                {"category": category, "defect": defect, "metrics": metrics, "reason": reason}
            )
        if defect == "all":
            self._found.update(measured.found)
            self._asked.update(measured.found, measured.absent)

    def rough(self, category: str, bound: float) -> None:
        """Note how far a category's pixel AUROC may be off (`PixelAccumulator.auroc_bound`), where it matters."""
        if bound > TOLERANCE:
            self._rough.append({"category": category, "bound": bound})

    def record(self, index: pd.DataFrame, use: Any) -> dict[str, Any]:
        """The JSON record.

        Args:
            index: category and label of n images.
            use: [n] bool, images that take part in pixel metrics.

        Returns:
            `absent`: rows {category, defect, metrics, reason}; category `mean`: in no category. `left_out`: rows
            {category, images, reason}, how many images pixel metrics do without. `rough`: rows {category, bound} where
            pixel metrics may be off by more than 1e-4, for scores lie too close for the bins.
        """
        nowhere = sorted(self._asked - self._found)
        rows = list(self._absent)
        if nowhere:
            rows.append({"category": "mean", "defect": "all", "metrics": nowhere, "reason": NOWHERE})
        without = index[~use & (index["label"].to_numpy() == 1)].groupby("category").size()
        left_out = [
            {
                "category": str(name),
                "images": int(count),
                "reason": NO_MASK.replace("no defective image has", "without"),
            }
            for name, count in without.items()
        ]
        return {"absent": rows, "left_out": left_out, "rough": self._rough}
