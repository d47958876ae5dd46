"""Promotions on a real MLflow server: from two processes at once, and after one was killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rivals
from running import MlflowServer, wait_for

import small_line
from flawline.settings import Settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Workspace

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from pathlib import Path
from flawline.settings import load_settings
from flawline.track import registry
from flawline.workspace import Workspace
place = Path(sys.argv[1])
with registry.promotion_lock(Workspace(place), load_settings(place / "params.yaml")):
    Path(sys.argv[2]).touch()
    time.sleep(600)
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    small_line.finish(root)
    return root


def test_of_two_processes_on_a_server_one_wins(
    finished: Path, tmp_path: Path, mlflow_server: MlflowServer, model: str
) -> None:
    """Two workspaces, as on two machines: no lock file reaches from one to the other."""
    from mlflow.tracking import MlflowClient

    roots = [rivals.workspace_of(finished, tmp_path / f"w{n}", model, q) for n, q in enumerate((0.95, 0.85))]
    found = rivals.judge_both(roots, mlflow_server.uri, tmp_path)
    first, second = rivals.one_wins(roots, found)
    client = MlflowClient(mlflow_server.uri)
    served = client.get_model_version_by_alias(model, "champion")
    winner = second if found[second]["verdict"] == "promote" else first
    assert str(served.version) == found[winner]["challenger"]
    assert not client.search_model_versions(f"name = '{model}.turns'")


def test_a_promotion_that_was_killed_blocks_nobody(
    plant: Callable[[str], tuple[Workspace, Settings]],
    versions: list[registry.Version],
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, settings = plant("killed")
    other, _ = plant("living")
    inside = tmp_path / "inside"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(one.root), str(inside)])
    try:
        wait_for("the other process holds the turn", inside.exists)
        with monkeypatch.context() as patched:
            patched.setattr(registry, "_WAIT_SECONDS", 1)
            began = time.monotonic()
            with pytest.raises(Exception, match="another promotion holds its turn"):
                registry.rollback(other, settings)
            assert time.monotonic() - began < 60
    finally:
        holder.kill()
        holder.wait()
    with registry.promotion_lock(other, settings):
        registry.promote(other, settings, versions[0])
    assert registry.by_alias(other, settings, registry.CHAMPION) == registry.versions(other, settings)[0]
    store = open_store(other, settings)
    assert not store.client.search_model_versions(f"name = '{settings.track.model}.turns'")
