"""A plant with an untrained champion in a real registry, for the watch's flow and commands."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
for folder in (ROOT / "tests" / "watch", ROOT / "tests"):
    sys.path.insert(0, str(folder))

from running import clean_environment  # noqa: E402

from flawline.workspace import Workspace  # noqa: E402

CHAMPION = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from flawline.clip.backbone import load_backbone
from flawline.clip.image_path import resolve_paths
from flawline.prompts import method_class, method_options
from flawline.prompts.shared.prompt_set import save_prompt_set
from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace
workspace = Workspace(Path(sys.argv[1]))
settings = load_settings(workspace.params)
backbone = load_backbone(settings.backbone, workspace.root)
options = method_options("human_free", settings.methods["human_free"])
path = resolve_paths(backbone, settings.features.paths)[options.image_path].model_dump()
card = {"method": "human_free", "backbone": backbone.card(), "options": options.model_dump(), "seed": 0}
card |= {"image_paths": {"main": path}, "train_set": "plates", "fidelity": "reconstruction"}
card |= {"threshold": {"value": 0.0, "rule": "quantile", "quantile": 0.95, "from": "good training images"}}
card |= {"score": "p_image", "learned": {"parameters": 1}, "train_sha256": []}
folder = workspace.prompts(Cell("human_free", "plates", 0))
save_prompt_set(folder, method_class("human_free")(backbone, options, 0), card)
store = open_store(workspace, settings)
run = store.client.create_run(store.experiment_id)
version = registry.register(workspace, settings, folder, run.info.run_id)
registry.promote(workspace, settings, version)
store.client.set_terminated(run.info.run_id)
"""


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A plant whose champion calls everything anomalous, and which knows no labelled image: all is unexplained."""
    import subprocess

    import spots
    from ruamel.yaml import YAML

    import small_line

    workspace = spots.make_plant(tmp_path_factory.mktemp("watched") / "wörk space")
    raw = spots.settings_of(workspace, reference=[], source="incoming", distance=0.2).model_dump()
    with workspace.params.open("w", encoding="utf-8") as stream:
        YAML(typ="safe", pure=True).dump(raw, stream)
    (workspace.root / "flows").symlink_to(ROOT / "flows")
    small_line.init_dvc(workspace.root)
    run = [sys.executable, "-c", CHAMPION, str(workspace.root), str(ROOT), str(ROOT / "src")]
    done = subprocess.run(
        run, env=clean_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for number in range(6):
        spots.save(workspace.root / "incoming" / f"{number}.png", f"in {number}", "burn")
    return workspace
