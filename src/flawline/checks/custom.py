"""Expectations that Great Expectations does not have. Import this inside functions only: it takes seconds.

Each is a map metric (which rows are fine?) and an expectation on it; both are found by name.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    MulticolumnMapMetricProvider,
    column_condition_partial,
    multicolumn_condition_partial,
)

from flawline.checks.tables import leaks
from flawline.data.memory import ImageMemory
from flawline.progress import track

_SIDES = "multicolumn_values.flawline_sides_within"
_APART = "multicolumn_values.flawline_apart"
_PAIRS = "multicolumn_values.flawline_pairs"
_CONTRAST = "column_values.flawline_contrast"
_BATCH = 64  # images a thread takes at a time


class _SidesWithin(MulticolumnMapMetricProvider):
    condition_metric_name = _SIDES
    condition_value_keys = ("smallest", "largest")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, smallest: int, largest: int, **_: Any) -> pd.Series:
        return ((column_list >= smallest) & (column_list <= largest)).all(axis=1)


class ExpectSidesWithin(MulticolumnMapExpectation):
    """Expect every given column of a row (pixels) to be within smallest..largest."""

    smallest: int
    largest: int
    map_metric: ClassVar[str] = _SIDES
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "smallest", "largest")


class _Apart(MulticolumnMapMetricProvider):
    condition_metric_name = _APART
    condition_value_keys = ("train_sets", "test_sets")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(
        cls, column_list: pd.DataFrame, train_sets: list[str], test_sets: list[str], **_: Any
    ) -> pd.Series:
        return ~leaks(column_list, train_sets, test_sets)


class ExpectTrainAndTestApart(MulticolumnMapExpectation):
    """Expect no content (dataset, split, sha256) on both sides; see flawline.checks.tables.leaks."""

    train_sets: Sequence[str]
    test_sets: Sequence[str]
    map_metric: ClassVar[str] = _APART
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "train_sets", "test_sets")


class _Pairs(MulticolumnMapMetricProvider):
    condition_metric_name = _PAIRS
    condition_value_keys = ("pairs",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, pairs: Sequence[Sequence[Any]], **_: Any) -> pd.Series:
        found = pd.MultiIndex.from_frame(column_list).isin([tuple(pair) for pair in pairs])
        return pd.Series(found, index=column_list.index, dtype=bool)


class ExpectPairsAmong(MulticolumnMapExpectation):
    """Expect the values of two columns to be one of `pairs`. Great Expectations' own expectation on pairs of columns
    asks row by row: seconds on 20,000 images. Lists, not tuples: a suite comes back from JSON and must be equal."""

    pairs: Sequence[Sequence[Any]]
    map_metric: ClassVar[str] = _PAIRS
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "pairs")


class _Contrast(ColumnMapMetricProvider):
    condition_metric_name = _CONTRAST
    condition_value_keys = ("folder", "least", "max_pixels")

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, folder: str, least: float, max_pixels: int, **_: Any) -> pd.Series:
        memory = ImageMemory(Path(folder), max_pixels)  # the manifest has read them all just before

        def shows_something(image: str) -> bool:
            try:
                seen = memory.image(Path(folder) / image)[1].spread
            except OSError:  # changed since the manifest was made: not for this expectation to tell
                return True
            return seen is None or seen >= least

        images = list(column)
        some = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        with ThreadPoolExecutor(4) as readers:
            told = readers.map(lambda part: [shows_something(image) for image in part], some)
            shown = list(track(chain.from_iterable(told), "contrast of images", total=len(images)))
        return pd.Series(shown, index=column.index, dtype=bool)


class ExpectContrast(ColumnMapExpectation):
    """Expect images (paths relative to `folder`) whose grey values spread at least `least` (0..255)."""

    folder: str
    least: float
    max_pixels: int
    map_metric: ClassVar[str] = _CONTRAST
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "folder", "least", "max_pixels")
