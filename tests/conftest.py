"""What every test stands on: quiet tools, fixed threads and throw-away workspaces."""

import atexit
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

from flawline.workspace import Workspace

# A shell's `make test &` makes its children ignore Ctrl-C; tests that interrupt would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports torch, MLflow or Prefect: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLAWLINE_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ.update(
    DO_NOT_TRACK="true",
    DVC_NO_ANALYTICS="1",
    GX_ANALYTICS_ENABLED="false",
    HF_HUB_OFFLINE="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_LEVEL="WARNING",
    RAY_USAGE_STATS_ENABLED="0",
    NO_COLOR="1",
)
# A developer's own workspace or tracking server must never be touched by a test.
for name in ("FLAWLINE_WORKSPACE", "FLAWLINE_TRACEBACK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
    os.environ.pop(name, None)

ROOT = Path(__file__).resolve().parent.parent


# Prefect reads its home when it is imported, which a test module may do while it is collected.
_prefect_home = tempfile.mkdtemp(prefix="flawline-prefect-")
os.environ["PREFECT_HOME"] = _prefect_home
atexit.register(shutil.rmtree, _prefect_home, ignore_errors=True)


class _ShimFirst(MetaPathFinder):
    """Runs ensure_torchvision before whatever needs torchvision, also where a test imports it directly."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in {"torchvision", "open_clip", "timm", "torchmetrics"}:
            sys.meta_path.remove(self)
            from flawline.clip.torchvision_shim import ensure_torchvision

            ensure_torchvision()


sys.meta_path.insert(0, _ShimFirst())


@pytest.fixture(autouse=True)
def _environment_is_put_back() -> Iterator[None]:
    """MLflow keeps its store's address in the environment, the CLI its workspace: not beyond a test."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that is tested."""
    return ROOT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace with the repository's params.yaml and vocabulary.yaml; no data, no git, no DVC.

    The folder's name holds a space and a letter outside ASCII: nothing may stumble over them.
    """
    root = tmp_path / "wörk space"
    root.mkdir()
    for name in ("params.yaml", "vocabulary.yaml"):
        if (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, root / name)
    return Workspace(root)


@pytest.fixture(scope="session")
def make_weights() -> Any:
    """The module that draws the golden cases' weights and images."""
    path = Path(__file__).parent / "golden" / "make_weights.py"
    spec = importlib.util.spec_from_file_location("make_weights", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
