"""The suite: every rule that the data must keep. Import inside functions only: it takes seconds."""

from pathlib import Path

import pandas as pd

from flawline.checks.rule import Rule
from flawline.checks.rules_images import contrast_rules, image_rules, mask_rules, schema_rules
from flawline.checks.rules_sets import amount_rules, name_rules, separation_rules
from flawline.data.vocabulary import Vocabulary
from flawline.settings import Settings


def make_rules(
    manifest: pd.DataFrame, settings: Settings, vocabulary: Vocabulary, data_root: Path, sound: bool
) -> list[Rule]:
    """The suite for one manifest, in the order of the report; only its schema where that is not `sound`."""
    rules = schema_rules(manifest)
    if sound:
        rules += [
            *image_rules(settings),
            *mask_rules(manifest),
            *amount_rules(settings),
            *separation_rules(manifest, settings),
            *name_rules(manifest, vocabulary),
            *contrast_rules(settings, data_root),
        ]
    for rule in rules:
        rule.expectation.meta = {"name": rule.name}
        rule.expectation.description = rule.what
        rule.expectation.severity = rule.severity
    return rules
