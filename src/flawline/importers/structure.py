"""What a checkpoint says it holds, read without unpickling: nothing that it names is imported, nothing is called.

torch writes the structure of a checkpoint as a pickle program: a list of operations for a small stack machine, two of
which (look up a name, call it) make pickles dangerous. `pickletools`, which only lists operations, takes the program
apart; this file plays the harmless operations on plain dicts, lists and tuples, and knows by heart the few names that
a state dict needs. Each of them stands for a value of ours, never for the thing it names. Any other name or operation
ends the reading.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flawline.errors import FlawlineError

MOST_BYTES = 2**20  # a program of one state dict has some ten thousand

#: torch's name of a storage class → dtype
DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """Numbers in a file of their own: `key` is its name, `count` how many of `dtype` it says there are."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class TensorPlace:
    """A tensor that has not been read: where its numbers lie and what its shape is."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Unread:
    """Something that nobody here needs (a NumPy number beside the tensors): known to be there, not made."""


class Refused(Exception):
    """Why a program is not read further (a clause)."""


@dataclass(frozen=True)
class _Name:
    dotted: str


_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
)  # fmt: skip
_IGNORED = {
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode",
}  # fmt: skip
_KNOWN = {_DICT, _TENSOR, _PARAMETER, *_IGNORED, *(f"torch.{name}" for name in DTYPES)}


def read_structure(program: bytes, path: str) -> Any:
    """The object a pickle program describes, of plain values, `TensorPlace` and `Unread`.

    Args:
        program: what torch writes as data.pkl.
        path: named in errors.

    Raises:
        FlawlineError: the program is too long, broken, or needs more than state dicts do; nothing of it was run.
    """
    if len(program) > MOST_BYTES:
        raise FlawlineError(
            f"{path}: {len(program)} bytes of structure are no state dict", "name another file"
        )
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(program):
            machine.play(operation.name, argument)
    except Refused as refusal:
        raise FlawlineError(
            f"{path} {refusal}, which no state dict needs; nothing of it was run",
            "save the state dict alone: tensors, numbers and words",
        ) from refusal
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise FlawlineError(
            f"{path} is broken: its structure cannot be followed", "fetch it again"
        ) from error
    return machine.result


class _Machine:
    """The stack machine, without the operations that import or call."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks that a mark has put aside
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def play(self, operation: str, argument: Any) -> None:
        if operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation](argument))
        elif operation in _STEPS:
            _STEPS[operation](self, argument)
        else:
            raise Refused(f"uses the pickle operation {operation}")

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def put(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def tuple_of(self, count: int) -> None:
        taken = tuple(self.stack[-count:])
        if len(taken) < count:
            raise IndexError
        self.stack[-count:] = [taken]

    def tuple_since_mark(self, _: Any) -> None:
        found = self.since_mark()
        self.stack.append(tuple(found))

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        self._list().extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def set_items(self, _: Any) -> None:
        self._fill(self.since_mark())

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise TypeError
        return self.stack[-1]

    def _fill(self, pairs: list[Any]) -> None:
        table = self.stack[-1]
        keys, values = pairs[::2], pairs[1::2]
        # Keys of other types could take for ever to hash (tuples of tuples of tuples …).
        if type(table) is not dict or not all(type(key) in (str, int) for key in keys):
            raise TypeError
        table.update(zip(keys, values, strict=True))

    def name(self, argument: str) -> None:
        dotted = argument.replace(" ", ".")
        if dotted not in _KNOWN:
            raise Refused(f"names {dotted[:80]!r}")
        self.stack.append(_Name(dotted))

    def stand_in(self, _: Any) -> None:
        """Where a pickle would call: a value of ours instead, for the names known by heart."""
        given, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(given, tuple):
            raise TypeError
        self.stack.append(_value_of(name.dotted, given))

    def state(self, _: Any) -> None:
        """Attributes that torch keeps beside a state dict (versions of modules): left out."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict | Unread):
            raise TypeError

    def storage(self, _: Any) -> None:
        kind, name, key, _place, count = self.stack.pop()
        if kind != "storage" or not isinstance(name, _Name) or type(key) is not str:
            raise TypeError
        dtype = DTYPES[name.dotted.removeprefix("torch.")]
        (numbers,) = _sizes((count,))
        self.stack.append(Storage(key, dtype, numbers))

    def stop(self, _: Any) -> None:
        (self.result,) = self.stack
        if self.below:
            raise ValueError


def _value_of(name: str, given: tuple[Any, ...]) -> Any:
    if name == _DICT and given == ():
        return {}
    if name == _TENSOR:
        storage, offset, shape, stride = given[:4]
        if not isinstance(storage, Storage) or len(shape) != len(stride):
            raise TypeError
        (start,) = _sizes((offset,))
        return TensorPlace(storage, start, _sizes(shape), _sizes(stride))
    if name == _PARAMETER and isinstance(given[0], TensorPlace):
        return given[0]
    if name in _IGNORED:
        return Unread()
    raise TypeError


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int and value >= 0 for value in values):
        raise TypeError
    return values


_Step = Callable[[_Machine, Any], None]
_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False,
    "BININT": lambda value: value, "BININT1": lambda value: value, "BININT2": lambda value: value,
    "LONG1": lambda value: value, "BINFLOAT": lambda value: value, "BINUNICODE": lambda value: value,
    "EMPTY_DICT": lambda _: {}, "EMPTY_LIST": lambda _: [], "EMPTY_TUPLE": lambda _: (),
}  # fmt: skip
_STEPS: dict[str, _Step] = {
    "PROTO": lambda *_: None, "MARK": _Machine.mark, "STOP": _Machine.stop,
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_since_mark, "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2), "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append, "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name, "REDUCE": _Machine.stand_in, "BUILD": _Machine.state, "BINPERSID": _Machine.storage,
}  # fmt: skip
