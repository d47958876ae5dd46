"""An ablation in MLflow: complete, once, and no retraining."""

import shutil

import pandas as pd
import pytest

from flawline.errors import FlawlineError
from flawline.evaluate.ablation import Evaluated, ablation_table
from flawline.files import write_text
from flawline.settings import Settings, parse_settings
from flawline.track import log_ablation as logging
from flawline.track.log import LoggedRun, log_retraining
from flawline.track.store import open_store
from flawline.variants import VariantId, entered
from flawline.workspace import Cell, Workspace

SEEDS = (0, 2)
CHANGE = {"rate": 0.5, "synth.noises": {"stain": 1}}


@pytest.fixture
def settings(workspace: Workspace) -> Settings:
    from flawline.settings import load_settings

    raw = load_settings(workspace.params).model_dump()
    variant = {"part": "the half", "why": "half of it", "change": CHANGE}
    return parse_settings(raw | {"ablations": {"learned": {"half": variant}}})


@pytest.fixture
def table(workspace: Workspace, settings: Settings) -> pd.DataFrame:
    """Where `default` and `half` have their files, and their table: `half` is what `words` was."""
    cells = []
    for name, method in (("default", "learned"), ("half", "words")):
        place, _ = entered(workspace, settings, VariantId("learned", name))
        for seed in SEEDS:
            cell, source = Cell("learned", "castings", seed), Cell(method, "castings", seed)
            shutil.copytree(workspace.prompts(source), place.prompts(cell))
            shutil.copytree(workspace.tuning(source), place.tuning(cell))
            for test in settings.data.test:
                shutil.copytree(workspace.evaluation(source, test), place.evaluation(cell, test))
                cells.append(Evaluated(name, "castings", seed, test, place.evaluation(cell, test)))
    for file in ("learned.csv", "learned.md"):
        write_text(workspace.ablation_tables / file, "table")
    for file in ("dvc.yaml", "dvc.lock"):
        write_text(workspace.ablation("learned") / file, "stages")
    return ablation_table("learned", cells, settings.evaluate)


def logged(workspace: Workspace, settings: Settings, table: pd.DataFrame, result: str = "r1") -> LoggedRun:
    cells = [(name, Cell("learned", "castings", seed)) for name in ("default", "half") for seed in SEEDS]
    return logging.log_ablation(workspace, settings, "learned", cells, table, result)


def runs(workspace: Workspace, settings: Settings) -> dict[str, str]:
    """Kind by run id."""
    store = open_store(workspace, settings)
    return {
        run.info.run_id: run.data.tags["flawline.kind"]
        for run in store.client.search_runs([store.experiment_id])
    }


def test_it_is_logged_whole_and_once(workspace: Workspace, settings: Settings, table: pd.DataFrame) -> None:
    first, again = (logged(workspace, settings, table) for _ in range(2))
    assert first.new and not again.new and again.children == first.children
    assert set(first.children) == {f"{n}-castings-{s}" for n in ("default", "half") for s in SEEDS}
    assert sorted(runs(workspace, settings).values()) == ["ablation", *["variant"] * 4]
    client = open_store(workspace, settings).client
    parent, child = client.get_run(first.run_id), client.get_run(first.children["half-castings-2"])
    assert parent.info.status == child.info.status == "FINISHED"
    assert parent.data.metrics["half.image_auroc.mean.difference"] < 0
    assert parent.data.params["variants"] == "default, half" and parent.data.params["seeds"] == "0, 2"
    there = {item.path for item in client.list_artifacts(first.run_id)}
    assert there == {"learned.csv", "learned.md", "dvc.yaml", "dvc.lock", "params.yaml"}
    assert (child.data.params["variant"], child.data.params["change.rate"]) == ("half", "0.5")
    assert child.data.params["change.synth.noises.stain"] == "1"
    assert child.data.tags["flawline.part"] == "the half"
    default = client.get_run(first.children["default-castings-2"])
    assert set(default.data.metrics) == set(child.data.metrics) and "image_auroc.boards" in child.data.metrics
    assert default.data.metrics["image_auroc.mean"] > child.data.metrics["image_auroc.mean"]
    assert logged(workspace, settings, table, "r2").new


def test_an_interrupted_logging_is_redone(
    workspace: Workspace, settings: Settings, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def half(*given: object) -> None:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(logging, "log_cell", half)
        logged(workspace, settings, table)
    assert len(runs(workspace, settings)) == 4
    assert logged(workspace, settings, table).new
    assert sorted(runs(workspace, settings).values()) == ["ablation", *["variant"] * 4]


def test_a_retraining_beside_it_has_no_variant_among_its_prompt_sets(
    workspace: Workspace, settings: Settings, table: pd.DataFrame
) -> None:
    """The gate picks its challenger from these children."""
    ablation = logged(workspace, settings, table, "same")
    retraining = log_retraining(workspace, settings, "same")
    assert retraining.new and not set(retraining.children.values()) & set(ablation.children.values())
    assert len(retraining.children) == 6
    assert not logged(workspace, settings, table, "same").new


def test_a_missing_file_is_named(workspace: Workspace, settings: Settings, table: pd.DataFrame) -> None:
    place, _ = entered(workspace, settings, VariantId("learned", "half"))
    (place.prompts(Cell("learned", "castings", 0)) / "card.json").unlink()
    with pytest.raises(FlawlineError, match=r"half.*card\.json is missing"):
        logged(workspace, settings, table)
