"""A retraining in MLflow: complete, from files, once."""

from pathlib import Path

import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.files import sha256_folder
from flawline.settings import Settings
from flawline.track import log
from flawline.track.log import attach_decision, attach_report, cells, log_retraining
from flawline.track.log_cell import prompts_text
from flawline.track.points import flatten
from flawline.track.store import open_store
from flawline.workspace import Cell, Workspace


def runs(workspace: Workspace, settings: Settings) -> list:
    store = open_store(workspace, settings)
    return list(store.client.search_runs([store.experiment_id]))


def files(workspace: Workspace, settings: Settings, run_id: str, folder: str = "") -> set[str]:
    client = open_store(workspace, settings).client
    found = set()
    for item in client.list_artifacts(run_id, folder or None):
        found |= files(workspace, settings, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_a_retraining_is_logged_whole_and_once(workspace: Workspace, settings: Settings) -> None:
    first = log_retraining(workspace, settings, "r1")
    again = log_retraining(workspace, settings, "r1")
    assert first.new and not again.new
    assert (again.run_id, again.children) == (first.run_id, first.children)
    assert len(runs(workspace, settings)) == 1 + len(cells(settings)) == 7
    check_parent(workspace, settings, first.run_id)
    check_child(workspace, settings, first.children["learned-castings-1"])
    other = log_retraining(workspace, settings, "r2")
    assert other.new and other.run_id != first.run_id


def check_parent(workspace: Workspace, settings: Settings, run_id: str) -> None:
    run = open_store(workspace, settings).client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["learned.image_auroc.mean"] > run.data.metrics["words.image_auroc.mean"]
    assert run.data.params["seeds"] == "0, 1, 2"
    wanted = {"metrics.csv", "params.yaml", "leaderboard.json", "checks/summary.json"}
    assert wanted <= files(workspace, settings, run_id)


def check_child(workspace: Workspace, settings: Settings, run_id: str) -> None:
    client = open_store(workspace, settings).client
    run = client.get_run(run_id)
    folder = workspace.prompts(Cell("learned", "castings", 1))
    assert run.data.tags["flawline.prompt_set"] == sha256_folder(folder)
    assert len(run.data.tags["flawline.dvc_lock"]) == 64
    assert run.data.params["backbone.name"] == "tiny" and run.data.params["options.rates"] == "0.1, 0.2"
    assert {"image_auroc.boards", "pixel_auroc.mean", "aupro.fabrics.schraube ü"} <= set(run.data.metrics)
    two = [run.data.metrics[f"image_auroc.{test}"] for test in ("boards", "fabrics")]
    assert run.data.metrics["image_auroc.mean"] == pytest.approx(sum(two) / 2)
    curve = client.get_metric_history(run_id, "curve.text.loss")
    assert [(point.step, point.value) for point in curve] == [(0, 1.5), (1, 0.5)]
    there = files(workspace, settings, run_id)
    assert {"prompt_set/prompts.safetensors", "prompt_set/card.json", "prompts.md"} <= there
    assert {f"overlays/{test}/best-1.png" for test in ("boards", "fabrics")} <= there
    inputs = {(i.dataset.name, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {("castings.train", "training"), ("boards.test", "testing"), ("fabrics.test", "testing")}


def test_an_interrupted_logging_is_redone(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def half(client: object, run_id: str, *rest: object) -> None:
        calls.append(run_id)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(log, "log_cell", half)
        log_retraining(workspace, settings, "r1")
    assert len(runs(workspace, settings)) == 4
    done = log_retraining(workspace, settings, "r1")
    left = {run.info.run_id for run in runs(workspace, settings)}
    assert done.new and left == {done.run_id, *done.children.values()}
    assert not left & set(calls)


def test_a_missing_file_is_named_and_nothing_counts_as_logged(
    workspace: Workspace, settings: Settings
) -> None:
    path = workspace.prompts(Cell("learned", "castings", 2)) / "card.json"
    held = path.read_bytes()
    path.unlink()
    with pytest.raises(FlawlineError, match=r"learned/castings/2/card\.json"):
        log_retraining(workspace, settings, "r1")
    path.write_bytes(held)
    assert log_retraining(workspace, settings, "r1").new


def test_report_and_decision_are_kept_once_and_replaced(workspace: Workspace, settings: Settings) -> None:
    logged = log_retraining(workspace, settings, "r1")
    assert attach_report(workspace, settings, logged)
    assert not attach_report(workspace, settings, logged)
    workspace.report.write_text("<html>new</html>")
    assert attach_report(workspace, settings, logged)
    decision = workspace.root / "0001-stay.json"
    decision.write_text("{}")
    assert attach_decision(workspace, settings, logged, decision)
    there = files(workspace, settings, logged.run_id)
    assert {path for path in there if path.startswith(("report/", "decisions/"))} == {
        "report/index.html",
        "decisions/0001-stay.json",
    }
    client = open_store(workspace, settings).client
    page = Path(client.download_artifacts(logged.run_id, "report/index.html"))
    assert page.read_text() == "<html>new</html>"


def test_the_result_id_is_read_from_dvc_by_default(workspace: Workspace, settings: Settings) -> None:
    (workspace.root / "dvc.yaml").write_text("stages:\n  make: {cmd: make, deps: [data], outs: [other]}\n")
    small_line.init_dvc(workspace.root)
    from flawline.line.lock import result_id

    assert log_retraining(workspace, settings).result_id == result_id(workspace, {"make"})


def test_the_prompts_read_as_words() -> None:
    text = prompts_text(
        {"method": "learned", "words": {"normal": ["good"]}}, {"anomalous": [[["rust", 0.91], ["a|b", 0.5]]]}
    )
    assert "| 1 | `rust` 0.91, `a\\|b` 0.50 |" in text and '"normal"' in text


def test_nested_values_get_dotted_names() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": None}) == [("a.b.c", 1), ("a.d", {}), ("e", None)]
