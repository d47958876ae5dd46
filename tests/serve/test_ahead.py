"""One item ahead, in a thread: order, errors in their place, and that it really overlaps."""

import threading
from collections.abc import Iterator

import pytest

from flawline.serve.ahead import ahead, in_batches


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_order(count: int) -> None:
    assert list(ahead(lambda number: number * number, range(count))) == [n * n for n in range(count)]


def test_the_next_item_is_worked_on_while_the_last_is_used() -> None:
    """Without a thread this would wait for ever: the second item's work is needed before the first is given back."""
    second = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            second.set()
        return number

    results = ahead(work, range(3))
    assert next(results) == 0
    assert second.wait(10)
    assert list(results) == [1, 2]


def test_no_more_than_one_result_waits() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number

    for here in ahead(work, range(9)):
        assert len(started) <= here + 2


def test_errors_are_raised_where_their_result_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield from (1, 0)

    results = ahead(lambda number: 1 // number, items())
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)

    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("gone")

    results = ahead(lambda number: number, broken())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_a_caller_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    results = ahead(lambda number: number, range(100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_batches() -> None:
    assert list(in_batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_batches([], 2)) == [] and list(in_batches(range(4), 4)) == [[0, 1, 2, 3]]
