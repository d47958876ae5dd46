"""What a rule of the suite is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flawline.checks.summary import Severity

Row = dict[Any, Any]


@dataclass(frozen=True)
class Rule:
    """One expectation on one table: `images` (the manifest), `masked`, `categories` or `datasets`."""

    name: str
    severity: Severity
    what: str  # a sentence
    remedy: str
    table: str
    expectation: Any  # of Great Expectations
    tell: Callable[[Row], str]  # an offending row of the table as "path: clause"
