"""Rules on data sets and categories as wholes. Import inside functions only: it takes seconds."""

from functools import partial

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from flawline.checks.custom import ExpectPairsAmong, ExpectTrainAndTestApart
from flawline.checks.rule import Row, Rule
from flawline.checks.tables import BOTH, leaks
from flawline.data.vocabulary import Vocabulary
from flawline.settings import Settings

LEAST_TESTED = 5  # good and anomalous test images below which a category's AUROC says little


def amount_rules(settings: Settings) -> list[Rule]:
    """There are enough images."""
    least = settings.checks.min_good
    rules = [
        Rule(
            "enough_good",
            "critical",
            f"Every category of a training set has at least {least} good training images.",
            "add good images to the category's train/good, or lower checks.min_good",
            "categories",
            gxe.ExpectColumnValuesToBeBetween(
                column="good_train",
                min_value=least,
                row_condition=Column("trains") == True,  # noqa: E712
            ),
            lambda row: f"{row['key']}: {row['good_train']} good training images, needs {least}",
        )
    ]
    for column, words in (("good_test", "good"), ("anomalous", "anomalous")):
        rules.append(
            Rule(
                f"enough_{words}_tests",
                "warning",
                f"Every category of a test set has at least {LEAST_TESTED} {words} test images.",
                f"add {words} test images, or read the category's numbers with care",
                "categories",
                gxe.ExpectColumnValuesToBeBetween(
                    column=column,
                    min_value=LEAST_TESTED,
                    row_condition=Column("tests") == True,  # noqa: E712
                ),
                partial(_few, column, words),
            )
        )
    return rules


def separation_rules(manifest: pd.DataFrame, settings: Settings) -> list[Rule]:
    """What trains does not test."""
    train, test = settings.data.train, settings.data.test
    flagged = manifest[leaks(manifest, train, test)]
    twins = {sha: list(part["image"]) for sha, part in flagged.groupby("sha256")}

    def tell(row: Row) -> str:
        others = [image for image in twins.get(row["sha256"], []) if image != row["image"]]
        return f"{row['image']}: same content as {', '.join(others)}"

    return [
        Rule(
            "train_and_test_apart",
            "critical",
            "No image is both in training and in test.",
            "remove one of the copies",
            "images",
            ExpectTrainAndTestApart(
                column_list=["dataset", "split", "sha256"], train_sets=train, test_sets=test
            ),
            tell,
        ),
        Rule(
            "sets_apart",
            "critical",
            "No data set both trains and tests.",
            "take it out of data.train or data.test in params.yaml",
            "datasets",
            gxe.ExpectColumnValuesToNotBeInSet(column="role", value_set=[BOTH]),
            lambda row: f"{row['key']}: is in data.train and in data.test",
        ),
    ]


def name_rules(manifest: pd.DataFrame, vocabulary: Vocabulary) -> list[Rule]:
    """Defect types have words."""
    named = sorted(set(zip(manifest["dataset"], manifest["defect"], strict=True)))
    known = [list(pair) for pair in named if vocabulary.knows(*pair)]
    return [
        Rule(
            "known_defects",
            "warning",
            "Every defect type is listed in vocabulary.yaml; others are read as their folder is named.",
            "give the defect type words in vocabulary.yaml",
            "images",
            ExpectPairsAmong(column_list=["dataset", "defect"], pairs=known),
            lambda row: f"{row['dataset']}: defect type '{row['defect']}' is not in vocabulary.yaml",
        )
    ]


def _few(column: str, words: str, row: Row) -> str:
    return f"{row['key']}: {row[column]} {words} test images"
