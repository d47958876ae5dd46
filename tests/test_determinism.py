"""A stage's number of threads is fixed, whatever the machine has."""

import os
import subprocess
import sys

import pytest

from flawline.determinism import THREADS, fix_threads, stage_threads, thread_environment


def test_the_environment_stands_above_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS, "3")
    assert stage_threads(1) == 3
    monkeypatch.setenv(THREADS, "")
    assert stage_threads(2) == 2
    monkeypatch.delenv(THREADS)
    assert stage_threads(2) == 2
    assert thread_environment(None) == {}


def test_a_stages_process_computes_with_that_many() -> None:
    """Also where the machine's own settings say otherwise."""
    code = """
from flawline.determinism import fix_threads, make_torch_deterministic
fix_threads(3)
import torch
make_torch_deterministic(0)
assert torch.get_num_threads() == 3, torch.get_num_threads()
"""
    environment = {name: value for name, value in os.environ.items() if name != THREADS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_every_library_that_computes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    fix_threads(5)
    assert [os.environ[name] for name in thread_environment(1)] == ["5"] * 4
