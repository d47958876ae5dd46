"""Measuring a prompt set beside the workspace's own, with the stage that evaluates those."""

from pathlib import Path

import pytest

import small_line
from flawline.files import sha256_folder
from flawline.settings import Settings, load_settings
from flawline.stages import evaluate as stage
from flawline.workspace import Cell, Workspace
from flows.evaluate import evaluate, table
from flows.measure import measure


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose evaluate stage reads a miniature prompt set: its one tensor says how good it is."""
    (tmp_path / "params.yaml").write_text(small_line.PARAMS)
    monkeypatch.chdir(tmp_path)

    def run(place: Workspace, settings: Settings, cell: Cell, test: str) -> None:
        from safetensors.numpy import load_file

        [quality] = set(load_file(place.prompts(cell) / "prompts.safetensors")["context"].ravel().tolist())
        assert (cell.method, cell.train, cell.seed) == ("learned", "castings", 3)
        small_line.write_evaluation(place.evaluation(cell, test), test, cell.method, cell.seed, quality)

    monkeypatch.setattr(stage, "run", run)
    return Workspace(tmp_path)


def test_it_lies_beside_the_workspaces_own_results(place: Workspace) -> None:
    folder = small_line.write_prompt_set(place.root / "elsewhere", "learned", 3, 0.9)
    before = sha256_folder(folder)
    found = measure(place, load_settings(place.params), folder, before)
    assert found == {t: place.state / "gate" / before / t for t in ("boards", "fabrics")}
    assert all((path / "metrics.csv").is_file() for path in found.values())
    assert not place.out.exists() and sha256_folder(folder) == before


def test_the_flow_shows_the_means_of_any_prompt_set(place: Workspace, prefect_api: None) -> None:
    from prefect.artifacts import Artifact

    folder = small_line.write_prompt_set(place.root / "elsewhere", "learned", 3, 0.9)
    folders = evaluate(str(place.root), str(folder))
    shown = Artifact.get("evaluation")
    assert set(folders) == {"boards", "fabrics"} and shown is not None
    assert (
        shown.data == table(folders) and "| boards |" in str(shown.data) and "image_auroc" in str(shown.data)
    )
    worse = small_line.write_prompt_set(place.root / "worse", "learned", 3, 0.6)
    assert table(evaluate(str(place.root), str(worse))) != table(folders)
