"""Structures of checkpoints: what torch writes is read, and whatever else stands in a pickle is not run."""

import io
import os
import pickletools
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flawline.errors import FlawlineError
from flawline.importers.structure import MOST_BYTES, Storage, TensorPlace, Unread, read_structure

from .released import state_dict


def program_of(value: Any, **how: Any) -> bytes:
    """data.pkl as torch writes it."""
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    with zipfile.ZipFile(stream) as archive:
        return archive.read("archive/data.pkl")


def read(value: Any) -> Any:
    return read_structure(program_of(value), "x.pth")


def test_plain_values_are_what_they_were() -> None:
    value = {
        "int": [0, 255, 65535, 70000, -3, 2**40], "float": -0.5, "none": None, "flags": (True, False),
        "words": "wörter", 7: [], "deep": {"a": {"b": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}},
    }  # fmt: skip
    assert read(value) == value


def test_a_state_dict_becomes_places() -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    found = read(
        state_dict({"weight": weight, "turned": weight.T, "parameter": torch.nn.Parameter(weight[1:])})
    )
    storage = Storage("0", "float32", 12)
    assert found == {
        "weight": TensorPlace(storage, 0, (3, 4), (4, 1)),
        "turned": TensorPlace(storage, 0, (4, 3), (1, 4)),
        "parameter": TensorPlace(storage, 4, (2, 4), (4, 1)),
    }


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_every_common_kind_of_number(dtype: str) -> None:
    assert read(torch.zeros(2, dtype=getattr(torch, dtype))).storage.dtype == dtype


def test_an_optimiser_and_numpy_numbers_beside_the_tensors() -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters(), betas=(0.5, 0.999))
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    found = read({"loss": np.mean([1.0]), "step": np.int64(3), "state": optimiser.state_dict()})
    assert isinstance(found["loss"], Unread) and isinstance(found["step"], Unread)
    assert found["state"]["param_groups"][0]["betas"] == (0.5, 0.999)
    assert found["state"]["state"][0]["exp_avg"].shape == (2, 2)


class Bomb:
    """Unpickling it runs a command."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.how = call, arguments

    def __reduce__(self) -> Any:
        return self.how


@pytest.mark.parametrize("place", ["whole", "inside", "beside"])
def test_a_pickle_bomb_does_not_run(place: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    bomb = Bomb(os.mkdir, str(target))
    value = {
        "whole": bomb,
        "inside": {"prompt_learner": {"ctx_pos": bomb}},
        "beside": {"a": 1, "epoch": bomb},
    }
    with pytest.raises(FlawlineError, match=r"x\.pth names '(posix|nt)\.mkdir'.*nothing of it was run"):
        read(value[place])
    assert not target.exists()
    program = program_of(bomb)  # and it is a real one
    assert "REDUCE" in {operation.name for operation, _, _ in pickletools.genops(program)}


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (eval, ("1",)),
        (getattr, ("", "join")),
        (torch.load, ("x",)),
        (torch.hub.load, ("x",)),
        (np.load, ("x",)),
    ],
)
def test_names_that_lead_further_are_refused(call: Any, arguments: tuple[str, ...]) -> None:
    with pytest.raises(FlawlineError, match="nothing of it was run"):
        read(Bomb(call, *arguments))


def test_objects_are_refused() -> None:
    with pytest.raises(FlawlineError, match="nothing of it was run"):
        read(torch.nn.Linear(1, 1))  # a whole module, not its state dict


def test_known_names_stand_for_our_values_only_where_they_fit() -> None:
    """A name that state dicts need is no way to call something with other arguments."""
    for program in (
        b"ctorch._utils\n_rebuild_tensor_v2\n(I1\ntR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02ccollections\nOrderedDict\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02ctorch\nFloatStorage\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02X\x01\x00\x00\x00a)R.",
    ):
        with pytest.raises(FlawlineError):
            read_structure(program, "x.pth")


def test_other_protocols_are_refused_by_operation() -> None:
    with pytest.raises(FlawlineError, match="pickle operation"):
        read_structure(program_of({"a": 1}, pickle_protocol=4), "x.pth")


def test_keys_that_would_take_for_ever_to_hash_are_refused() -> None:
    """((((), ()), ((), ())), …): each level twice the work, in three bytes."""
    program = b"\x80\x02})" + b"q\x00h\x00\x86" * 200 + b"NsN."
    with pytest.raises(FlawlineError, match="broken"):
        read_structure(program, "x.pth")


@pytest.mark.parametrize(
    "program", [b"", b".", b"\x80\x02", b"\x80\x02}q", b"\x80\x02s.", b"\x80\x02(.", b"not"]
)
def test_broken_programs_are_one_clear_error(program: bytes) -> None:
    with pytest.raises(FlawlineError, match=r"x\.pth"):
        read_structure(program, "x.pth")


def test_a_program_that_is_too_long_is_not_begun() -> None:
    with pytest.raises(FlawlineError, match="bytes of structure"):
        read_structure(b"\x80\x02" + b"]" * MOST_BYTES, "x.pth")


def test_whatever_a_byte_is_changed_to_the_answer_is_a_structure_or_a_clear_error() -> None:
    program = program_of(
        {"prompt_learner": state_dict({"ctx_pos": torch.zeros(2, 3)}), "loss": np.float64(1)}
    )
    draw, refused = random.Random(0), 0
    for _ in range(1500):
        changed = bytearray(program)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        try:
            read_structure(bytes(changed[: draw.randint(len(changed) // 2, len(changed))]), "x.pth")
        except FlawlineError:
            refused += 1
    assert refused > 1000
