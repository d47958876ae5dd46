"""Bootstrap draws a few at a time: all weights of `resample` at once do not fit thousands of images."""

from collections.abc import Iterator, Sequence

import numpy as np

from flawline.determinism import derived_seed
from flawline.evaluate.bootstrap import group_numbers

_ROWS = 256


def weight_blocks(
    strata: Sequence[object] | np.ndarray,
    samples: int,
    seed: int,
    groups: Sequence[object] | np.ndarray | None = None,
    cells: int = 1 << 17,
) -> Iterator[np.ndarray]:
    """The rows of `flawline.evaluate.bootstrap.resample`, in its order, some at a time.

    Args:
        strata, samples, seed, groups: as for `resample`.
        cells: about so many weights a block, whatever the number of images.

    Yields:
        [b, n] int32, together [samples, n].
    """
    names = np.asarray([str(stratum) for stratum in strata])
    unit = group_numbers(len(names), groups)
    count = int(unit.max(initial=-1)) + 1
    of_unit = _strata_of_units(names, unit, count)
    streams = [
        (np.flatnonzero(of_unit == name), np.random.default_rng(derived_seed("bootstrap", seed, name)))
        for name in sorted(set(of_unit.tolist()))
    ]
    rows = max(1, min(_ROWS, cells // max(1, len(names))))
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = np.zeros((size, count), dtype=np.int32)
        for units, random in streams:
            drawn[:, units] = random.multinomial(len(units), np.full(len(units), 1 / len(units)), size=size)
        yield drawn if count == len(names) else drawn[:, unit]


def _strata_of_units(names: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """[count] the strata that a group's images lie in, as one name."""
    if count == len(names):
        return names
    members: list[set[str]] = [set() for _ in range(count)]
    for number, name in zip(unit.tolist(), names.tolist(), strict=True):
        members[number].add(name)
    return np.asarray(["+".join(sorted(one)) for one in members])
