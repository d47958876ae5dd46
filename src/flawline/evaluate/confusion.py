"""Which defect types are taken for which: the confusion matrix of one test set."""

from pathlib import Path

import numpy as np
import pandas as pd

from flawline.evaluate.tables import read_table
from flawline.evaluate.types import TypeScores

GOOD = "good"
COLUMNS = ("category", "true", "named", "images", "flagged")


def confusion(
    scores: TypeScores, truth: list[str], categories: np.ndarray, image_scores: np.ndarray, threshold: float
) -> pd.DataFrame:
    """Counts of (true type, named type), for each category and for all of them together (`all`).

    Args:
        scores: what a method says of the types of n images.
        truth: the words of each image's type, empty for a good image.
        categories: [n] str.
        image_scores: [n]. threshold: of the card; an image is flagged when its score is above it.

    Returns:
        Columns COLUMNS, sorted. `named` is the most probable defect type, whatever the probability of good. `images`
        counts all images of the pair, `flagged` those that would be reported: among defective images `images` is the
        matrix behind type_accuracy and type_f1; at work a true type is named `flagged` times and missed for the rest,
        and the rows whose true type is `good` are false alarms by the name they get. Pairs that do not occur have no
        row.
    """
    flagged = np.asarray(image_scores, dtype=np.float64) > threshold
    rows = pd.DataFrame(
        {
            "category": np.asarray(categories).astype(str),
            "true": [words or GOOD for words in truth],
            "named": scores.named(),
            "images": 1,
            "flagged": flagged.astype(int),
        }
    )
    both = pd.concat([rows, rows.assign(category="all")], ignore_index=True)
    counted = both.groupby(["category", "true", "named"], as_index=False)[["images", "flagged"]].sum()
    order = counted.assign(last=(counted["category"] == "all"), good=(counted["true"] == GOOD))
    order = order.sort_values(["last", "category", "good", "true", "named"], kind="stable")
    return order[list(COLUMNS)].reset_index(drop=True)


def confusion_matrix(table: pd.DataFrame, category: str = "all", at_threshold: bool = False) -> pd.DataFrame:
    """True types down, named types across.

    Args:
        table: from `confusion`.
        category: one of its categories, or `all`.
        at_threshold: False: the defective images by their most probable type. True: as served, where an image below
            the threshold is named `good`, and good images are a row too.
    """
    part = table[table["category"] == category]
    if not at_threshold:
        part = part[part["true"] != GOOD]
        counts = part.pivot_table(index="true", columns="named", values="images", aggfunc="sum", fill_value=0)
        names = sorted({*part["true"], *part["named"]})
        return counts.reindex(index=sorted(set(part["true"])), columns=names, fill_value=0)
    missed = part.assign(named=GOOD, flagged=part["images"] - part["flagged"])
    served = pd.concat([part, missed], ignore_index=True)
    counts = served.pivot_table(index="true", columns="named", values="flagged", aggfunc="sum", fill_value=0)
    names = [*sorted({*part["true"], *part["named"]} - {GOOD}), GOOD]
    return counts.reindex(index=[n for n in names if n in counts.index], columns=names, fill_value=0)


def read_confusion(path: Path) -> pd.DataFrame:
    """Read a confusion.csv.

    Raises:
        FlawlineError: the file is missing or is no such table.
    """
    types = dict.fromkeys(COLUMNS[:3], str) | dict.fromkeys(COLUMNS[3:], int)
    return read_table(path, "confusion table", COLUMNS, types)
