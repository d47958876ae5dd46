"""Work on what comes next while the caller is busy with what is here: one thread, one item ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")


def ahead(work: Callable[[Item], Done], items: Iterable[Item]) -> Iterator[Done]:
    """`map(work, items)`, the next item being read and worked on in a thread while the caller uses the last result.

    Results come in the items' order; an exception of `work` or of `items` is raised where its result would have come.
    Memory is that of two results: the caller's and the next one.
    """
    rest = iter(items)

    def step() -> list[Done]:
        """The next result, or nothing at the end; never called twice at once."""
        for item in rest:
            return [work(item)]
        return []

    here = step()
    with ThreadPoolExecutor(1, thread_name_prefix="flawline-ahead") as pool:
        while here:
            coming = pool.submit(step)
            yield here[0]
            here = coming.result()


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one maybe shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
