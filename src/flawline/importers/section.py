"""A named part of a checkpoint, read key by key: every key must be expected, every shape as it should be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flawline.errors import FlawlineError
from flawline.importers.checkpoint import Checkpoint
from flawline.importers.structure import TensorPlace


class Section:
    """State dict of one module inside a checkpoint; `label` is put before its keys in messages."""

    def __init__(self, checkpoint: Checkpoint, tensors: dict[str, TensorPlace], label: str) -> None:
        self.checkpoint = checkpoint
        self.tensors = tensors
        self.label = label
        self.left = set(tensors)

    def take(self, key: str, *shape: int | None, whole: bool = False) -> Tensor:
        """A tensor as float32, or as int64 with `whole`; None in `shape` is any size.

        Raises:
            FlawlineError: no such key, another shape, another kind of number, or values that are not finite.
        """
        found = list(self.shape(key))
        if len(found) != len(shape) or any(w not in (None, n) for w, n in zip(shape, found, strict=True)):
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.wrong(key, f"expected shape [{expected}], found {found}")
        self.left.discard(key)
        value = self.checkpoint.tensor(self.tensors[key])
        if value.is_floating_point() == whole:
            raise self.wrong(
                key, f"expected {'whole' if whole else 'floating-point'} numbers, found {value.dtype}"
            )
        if not value.isfinite().all():
            raise self.wrong(key, "holds values that are not finite")
        return value.to(torch.int64 if whole else torch.float32)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor; raises FlawlineError where there is none."""
        if key not in self.tensors:
            raise FlawlineError(
                f"{self.checkpoint.path} lacks {self.label}{key}", "is it a checkpoint of that method?"
            )
        return self.tensors[key].shape

    def stack(self, prefix: str, *shape: int | None) -> Tensor | None:
        """The tensors prefix.0, prefix.1, … of one shape as one [n, …]; None where there are none."""
        numbered = [key for key in self.tensors if key.startswith(f"{prefix}.")]
        values = [self.take(f"{prefix}.{number}", *shape) for number in range(len(numbered))]
        for number, value in enumerate(values):
            if value.shape != values[0].shape:
                raise self.wrong(
                    f"{prefix}.{number}", f"expected shape {list(values[0].shape)}, found {list(value.shape)}"
                )
        return torch.stack(values) if values else None

    def skip(self, prefix: str) -> list[str]:
        """Leave tensors out that the method saves and never uses; returns their keys."""
        found = sorted(key for key in self.left if key.startswith(prefix))
        self.left.difference_update(found)
        return [f"{self.label}{key}" for key in found]

    def close(self) -> None:
        """Raises FlawlineError where tensors were neither taken nor skipped."""
        if self.left:
            first, more = min(self.left), len(self.left) - 1
            beside = f" and {more} more" if more else ""
            raise FlawlineError(
                f"{self.checkpoint.path} holds {self.label}{first}{beside}, which the released code does not save",
                "is it a checkpoint of another version or method?",
            )

    def wrong(self, key: str, what: str) -> FlawlineError:
        return FlawlineError(
            f"{self.checkpoint.path}: {self.label}{key}: {what}", "is the backbone the right one?"
        )


@contextmanager
def section(checkpoint: Checkpoint, *names: str) -> Iterator[Section]:
    """A part of a checkpoint under the first of `names` that is there; without names the checkpoint itself.

    At the end of the block every key must have been taken or skipped.

    Raises:
        FlawlineError: no such part, or something in it is no tensor.
    """
    name = next((name for name in names if name in checkpoint.table), None)
    if names and name is None:
        raise FlawlineError(f"{checkpoint.path} lacks {names[0]}", "is it a checkpoint of that method?")
    table: Any = checkpoint.table if name is None else checkpoint.table[name]
    label = "" if name is None else f"{name}."
    if not isinstance(table, dict):
        raise FlawlineError(f"{checkpoint.path}: {name} is no state dict", "name another file")
    for key, value in table.items():
        if not isinstance(value, TensorPlace) or not isinstance(key, str) or not key.isprintable():
            raise FlawlineError(
                f"{checkpoint.path}: {label}{repr(key)[:80]} is no tensor with a name", "name another file"
            )
    part = Section(checkpoint, table, label)
    yield part
    part.close()
