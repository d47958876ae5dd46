"""How many stages at once, where, and with how many threads."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flawline.determinism import THREADS
from flawline.settings import BackboneSettings
from flawline.workspace import Workspace
from flows.runners import auto_workers, free_memory, stage_memory

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]


def backbone(weights: str = "none") -> BackboneSettings:
    return BackboneSettings(name="any", weights=weights)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def build(cores: int, memory: float) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
        monkeypatch.setattr("flows.runners.free_memory", lambda: memory)

    return build


@pytest.mark.parametrize(
    ("cores", "threads", "gib", "count"),
    [(8, 1, 64, 8), (8, 3, 64, 2), (2, 4, 64, 1), (8, 1, 12, 2), (8, 1, 0.1, 1)],
)
def test_auto_fills_cores_and_memory(  # type: ignore[no-untyped-def]
    machine, tmp_path: Path, cores: int, threads: int, gib: float, count: int
) -> None:
    machine(cores, gib * GIB)
    assert auto_workers(Workspace(tmp_path), backbone(), threads) == count


def test_larger_weights_need_more_memory(tmp_path: Path) -> None:
    with (tmp_path / "w.safetensors").open("wb") as file:
        file.truncate(GIB // 2)
    workspace = Workspace(tmp_path)
    assert stage_memory(workspace, backbone("w.safetensors")) == 3.5 * GIB
    assert stage_memory(workspace, backbone("laion400m_e32")) == 5.5 * GIB


def test_a_containers_limit_counts_but_not_its_cached_files(tmp_path: Path) -> None:
    available = psutil.virtual_memory().available
    assert free_memory(tmp_path) == pytest.approx(available, rel=0.5), "no cgroup at all"
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 1000
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory(tmp_path) == 450


def test_one_machine_imports_nothing_of_dask(tmp_path: Path) -> None:
    """`prefect-dask` is installed where this runs, so only restraint keeps it out."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import small_line, flows.retrain, flows.ablate
from flawline.settings import load_settings
from flawline.workspace import Workspace
from flows.runners import stage_runner
root = Path({str(tmp_path)!r})
small_line.make_workspace(root)
workspace = Workspace(root)
with stage_runner(workspace, load_settings(workspace.params)) as runner:
    assert runner.slots() >= 1
    loaded = {{"dask", "distributed", "prefect_dask"}} & set(sys.modules)
assert not loaded, loaded
import prefect_dask
"""
    environment = {**os.environ, THREADS: "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
