"""What the shown prompts would get wrong at their threshold: missed defects and false alarms, image by image."""

from dataclasses import dataclass

import pandas as pd

from flawline.errors import FlawlineError
from flawline.files import read_parquet
from flawline.report.gather import Results
from flawline.workspace import Workspace

MOST = 6
_COLUMNS = ["image", "category", "defect", "label", "image_score"]


@dataclass(frozen=True)
class Judged:
    """An image and its score; `wrong`: on the wrong side of the threshold."""

    image: str
    category: str
    defect: str
    score: str
    wrong: bool


@dataclass(frozen=True)
class Mistakes:
    """Of one test set: the defective images with the lowest scores and the good ones with the highest.

    Attributes:
        missed, defective: defective images not above the threshold, of how many.
        alarms, good: good images above it, of how many.
        lowest, highest: at most MOST of each, the worst first.
    """

    test: str
    threshold: str
    missed: int
    defective: int
    alarms: int
    good: int
    lowest: list[Judged]
    highest: list[Judged]


def mistakes(workspace: Workspace, results: Results) -> list[Mistakes]:
    """For each test set, from scores.parquet and the card of the shown prompt set; empty without a threshold.

    Raises:
        FlawlineError: a scores table lacks a column.
    """
    chosen = results.chosen
    threshold = results.cards.get(chosen, {}).get("threshold") if chosen else None
    if chosen is None or not isinstance(threshold, dict) or "value" not in threshold:
        return []
    line, found = float(threshold["value"]), []
    for test in results.settings.data.test:
        path = workspace.evaluation(chosen, test) / "scores.parquet"
        if not path.is_file():
            continue
        scores = read_parquet(path)
        if missing := [column for column in _COLUMNS if column not in scores.columns]:
            raise FlawlineError(f"{path} lacks the column {missing[0]}", "delete it and run its stage again")
        bad, good = scores[scores["label"] == 1], scores[scores["label"] == 0]
        found.append(
            Mistakes(
                test=test,
                threshold=f"{line:.3f}",
                missed=int((bad["image_score"] <= line).sum()),
                defective=len(bad),
                alarms=int((good["image_score"] > line).sum()),
                good=len(good),
                lowest=_worst(bad, line, True),
                highest=_worst(good, line, False),
            )
        )
    return found


def _worst(part: pd.DataFrame, line: float, lowest: bool) -> list[Judged]:
    ordered = part.sort_values(["image_score", "image"], ascending=[lowest, True]).head(MOST)
    names = [ordered[column].astype(str).tolist() for column in _COLUMNS[:3]]
    values = ordered["image_score"].to_numpy(dtype=float).tolist()
    return [
        Judged(image, category, defect, f"{value:.3f}", value <= line if lowest else value > line)
        for image, category, defect, value in zip(*names, values, strict=True)
    ]
