"""Parts of a checkpoint: every key expected, every shape checked, every fault named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from flawline.errors import FlawlineError
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.section import section

STATE = {
    "ctx": torch.ones(1, 3, 4).half(), "ids": torch.tensor([1, 2], dtype=torch.int32),
    "deep.0": torch.zeros(2, 4), "deep.1": torch.ones(2, 4), "spare.weight": torch.zeros(1),
}  # fmt: skip


def saved(folder: Path, value: Any) -> Checkpoint:
    torch.save(value, folder / "x.pth")
    return Checkpoint.open(folder / "x.pth")


def test_a_part_is_read_in_full(tmp_path: Path) -> None:
    with section(saved(tmp_path, {"learner": STATE, "epoch": 3}), "learner") as part:
        ctx = part.take("ctx", 1, None, 4)
        assert ctx.dtype == torch.float32 and torch.equal(ctx, torch.ones(1, 3, 4))
        assert torch.equal(part.take("ids", 2, whole=True), torch.tensor([1, 2]))
        deep = part.stack("deep", None, 4)
        assert deep is not None and torch.equal(deep, torch.stack([STATE["deep.0"], STATE["deep.1"]]))
        assert part.stack("nothing", 4) is None
        assert part.skip("spare.") == ["learner.spare.weight"]


def test_the_second_name_counts_where_the_first_is_not_there(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, {"new": {"a": torch.zeros(1)}})
    with section(checkpoint, "old", "new") as part:
        assert part.label == "new." and part.take("a", 1).shape == (1,)
    with section(saved(tmp_path, {"a": torch.zeros(1)})) as part:
        assert part.label == "" and part.take("a", 1).shape == (1,)


def _read(checkpoint: Checkpoint, key: str, *shape: int | None, whole: bool = False) -> None:
    with section(checkpoint, "learner") as part:
        part.take(key, *shape, whole=whole)


@pytest.mark.parametrize(
    ("key", "shape", "whole", "told"),
    [
        ("ctx", (1, 3, 5), False, r"x\.pth: learner\.ctx: expected shape \[1, 3, 5\], found \[1, 3, 4\]"),
        ("ctx", (None, 4), False, r"expected shape \[any, 4\], found \[1, 3, 4\]"),
        ("none", (1,), False, r"x\.pth lacks learner\.none"),
        ("ids", (2,), False, r"learner\.ids: expected floating-point numbers, found torch\.int32"),
        ("ctx", (1, 3, 4), True, r"learner\.ctx: expected whole numbers, found torch\.float16"),
        ("ctx", (1, 3, 4), False, r"x\.pth holds learner\.deep\.0 and 3 more, which the released code"),
    ],
)
def test_faults_name_file_key_and_shape(
    key: str, shape: tuple[int | None, ...], whole: bool, told: str, tmp_path: Path
) -> None:
    with pytest.raises(FlawlineError, match=told) as caught:
        _read(saved(tmp_path, {"learner": STATE}), key, *shape, whole=whole)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(FlawlineError, match=r"learner\.a: holds values that are not finite"):
            _read(saved(tmp_path, {"learner": {"a": torch.tensor([value])}}), "a", 1)


def test_numbered_tensors_have_no_gap_and_one_shape(tmp_path: Path) -> None:
    for state, told in (
        ({"deep.0": torch.zeros(2), "deep.2": torch.zeros(2)}, r"lacks learner\.deep\.1"),
        ({"deep.0": torch.zeros(2), "deep.1": torch.zeros(3)}, r"deep\.1: expected shape \[2\], found \[3\]"),
    ):
        with (
            pytest.raises(FlawlineError, match=told),
            section(saved(tmp_path, {"learner": state}), "learner") as part,
        ):
            part.stack("deep", None)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"other": {}}, "lacks learner"),
        ({"learner": [1]}, "learner is no state dict"),
        ({"learner": {"a": 1}}, r"learner\.'a' is no tensor"),
        ({"learner": {3: torch.zeros(1)}}, r"learner\.3 is no tensor with a name"),
        ({"learner": {"a\x1b[2J": torch.zeros(1)}}, r"learner\.'a\\x1b\[2J' is no tensor with a name"),
    ],
)
def test_parts_that_are_no_state_dict(table: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=told):
        _read(saved(tmp_path, table), "a", 1)
