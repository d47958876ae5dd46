"""Over 20 seeds a constellation: an equal challenger is rarely promoted, a worse one never, a better one mostly."""

import pytest

from gate.rates import EQUAL, LARGE, SETTINGS, UNEQUAL, Constellation, promoted, quick

SEEDS = 20
QUICK = SETTINGS.model_copy(update={"bootstrap": 200})
SMALL = {one.name: quick(one) for one in (*EQUAL, *UNEQUAL) if one.images is not LARGE}
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [one.name for one in EQUAL if one.images is not LARGE])
def test_an_equal_challenger_is_promoted_at_most_once_in_twenty(name: str) -> None:
    assert promoted(SMALL[name], SEEDS, QUICK) <= SEEDS * 0.05


@pytest.mark.parametrize("name", ["worse by 0.10", "worse by 0.05"])
def test_a_worse_challenger_is_never_promoted(name: str) -> None:
    assert promoted(SMALL[name], SEEDS, QUICK) == 0


def test_a_much_better_challenger_is_promoted_at_the_sample_sets_sizes() -> None:
    assert promoted(SMALL["better by 0.10"], SEEDS, QUICK) >= 0.7 * SEEDS


def test_superiority_alone_errs_as_often_as_it_says() -> None:
    """Without the margins' help, which refuse most of what is equal: the family of the mean and the new types."""
    lenient = QUICK.model_copy(update={"margin": 0.49, "type_margin": 0.49, "false_alarm_margin": 0.99})
    assert promoted(quick(Constellation("equal", own=0.5, new=True)), SEEDS, lenient) <= 2
