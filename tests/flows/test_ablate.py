"""A whole ablation on a miniature line: once, repeated for nothing, in parts, and never in the main line's way."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.files import sha256_file, sha256_folder
from flawline.line import pipeline
from flawline.line.lock import locked_stages
from flawline.settings import load_settings
from flawline.track import registry
from flawline.track.log import cells, log_retraining
from flawline.track.store import open_store
from flawline.workspace import Workspace
from flows.ablate import main

# Good features and a rate make a good prompt set: the two things that variants of this line change.
LINE = f"""\
stages:
  features:
    matrix: {{train: "${{data.train}}"}}
    cmd: {sys.executable} line.py features ${{item.train}}
    deps: [quality.json]
    params: [synth]
    outs: ["out/features/train/${{item.train}}"]
  tune:
    matrix: {{method: "${{tune.methods}}", train: "${{data.train}}", seed: "${{tune.seeds}}"}}
    cmd: {sys.executable} line.py tune --method ${{item.method}} --train ${{item.train}} --seed ${{item.seed}}
    deps: ["out/features/train/${{item.train}}"]
    params: ["methods.${{item.method}}"]
    outs:
      - out/prompts/${{item.method}}/${{item.train}}/${{item.seed}}
      - out/tuning/${{item.method}}/${{item.train}}/${{item.seed}}
  evaluate:
    matrix:
      method: ${{tune.methods}}
      train: ${{data.train}}
      seed: ${{tune.seeds}}
      test: ${{data.test}}
    cmd: >-
      {sys.executable} line.py evaluate --method ${{item.method}} --train ${{item.train}} --seed ${{item.seed}}
      --test ${{item.test}}
    deps: ["out/prompts/${{item.method}}/${{item.train}}/${{item.seed}}"]
    params: [evaluate]
    outs: ["out/evaluation/${{item.method}}/${{item.train}}/${{item.seed}}/${{item.test}}"]
"""
SCRIPT = f"""\
import argparse, json, os, sys
from pathlib import Path
sys.path[:0] = [{str(Path(small_line.__file__).parent)!r}]
import small_line
from flawline.settings import load_settings
from flawline.variants import VariantId, entered
from flawline.workspace import Cell, Workspace

asked = argparse.ArgumentParser()
asked.add_argument("stage")
asked.add_argument("name", nargs="?")
for name in ("method", "train", "seed", "test", "variant"):
    asked.add_argument("--" + name)
args = asked.parse_args()
workspace = Workspace.find()
os.chdir(workspace.root)
settings = load_settings(workspace.params)
if args.variant:
    workspace, settings = entered(workspace, settings, VariantId.parse(args.variant))
if args.stage == "features":
    folder = workspace.features("train", args.name)
    folder.mkdir(parents=True)
    quality = json.loads(Path("quality.json").read_text())["learned"]
    clip = settings.synth.object_mask == "clip"
    (folder / "quality").write_text(str(quality if clip else 0.5))
    sys.exit()
cell = Cell(args.method, args.train, int(args.seed))
raw = settings.methods[args.method]
quality = float((workspace.features("train", args.train) / "quality").read_text())
if args.stage == "tune":
    better = 0.5 + (quality - 0.5) * raw.get("rate", 1)
    small_line.write_prompt_set(workspace.prompts(cell), args.method, cell.seed, better)
    workspace.tuning(cell).mkdir(parents=True)
    (workspace.tuning(cell) / "curves.csv").write_text("stage,step,quantity,value\\ntext,0,loss,1.5\\n")
else:
    from safetensors.numpy import load_file
    held = load_file(workspace.prompts(cell) / "prompts.safetensors")["context"]
    folder = workspace.evaluation(cell, args.test)
    small_line.write_evaluation(folder, args.test, args.method, cell.seed, float(held[0, 0]))
"""
ABLATIONS = """\
ablations:
  learned:
    slow: {part: rate, why: half the rate, change: {rate: 0.5}}
    blind: {part: OAGM mask, why: whole image, change: {synth.object_mask: whole}}
    same: {part: rate, why: the rate it has, change: {rate: 1}}
"""


def make_line(root: Path) -> Workspace:
    """The main line after its features, and all that log_cell asks for."""
    root.mkdir()
    (root / "dvc.yaml").write_text(LINE)
    (root / "line.py").write_text(SCRIPT)
    params = small_line.PARAMS.replace("overlays: 1", "overlays: 0").replace(", fabrics]", "]")
    (root / "params.yaml").write_text(params + ABLATIONS)
    small_line.set_quality(root, learned=0.9, words=0.6)
    rows = [("castings", "train", "castings/nut/train/good/0.png")]
    (root / "out").mkdir()
    table = pd.DataFrame(rows, columns=["dataset", "split", "image"])
    table.to_parquet(root / "out" / "manifest.parquet", index=False)
    small_line.init_dvc(root)
    return Workspace(root)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Workspace:
    """One seed of everything, run once; tests only read it, or run what leaves it as it is."""
    workspace = make_line(tmp_path_factory.mktemp("line") / "wörk space")
    pipeline.run(workspace, "features@castings")
    [ablation] = main(workspace.root, ["learned"], [4])
    assert ablation.variants == ("default", "slow", "blind", "same") and ablation.logged
    assert set(ablation.stages.values()) == {"ran"} and len(ablation.stages) == 4 * 2 + 1
    return workspace


def found_runs(workspace: Workspace) -> list:
    store = open_store(workspace, load_settings(workspace.params))
    return list(store.client.search_runs([store.experiment_id]))


def table_of(workspace: Workspace) -> pd.DataFrame:
    table = pd.read_csv(workspace.ablation_tables / "learned.csv", dtype={"seed": str})
    means = table[(table["seed"] == "mean") & (table["test_set"] == "mean")]
    return means[means["metric"] == "image_auroc"].set_index("variant")


def test_what_a_part_is_worth_stands_in_the_table(done: Workspace) -> None:
    table = table_of(done)
    assert list(table.index) == ["default", "slow", "blind", "same"]
    difference = table["difference"]
    assert difference["same"] == difference["default"] == 0
    assert difference["blind"] < difference["slow"] < -0.02
    assert table.loc["blind", "ci_high"] < 0
    text = (done.ablation_tables / "learned.md").read_text()
    assert "| `blind` | OAGM mask | `synth.object_mask: whole` |" in text and "seed 4;" in text


def test_it_lands_in_mlflow_as_runs_that_can_be_compared(done: Workspace) -> None:
    kinds: dict[str, list] = {}
    for run in found_runs(done):
        kinds.setdefault(run.data.tags["flawline.kind"], []).append(run)
    assert set(kinds) == {"ablation", "variant"}
    [parent], children = kinds["ablation"], kinds["variant"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    by = {run.data.tags["flawline.variant"]: run for run in children}
    assert set(by) == {"default", "slow", "blind", "same"} and len(children) == 4
    assert {frozenset(run.data.metrics) for run in children} == {frozenset(by["default"].data.metrics)}
    table = table_of(done)
    for name, run in by.items():
        assert run.data.metrics["image_auroc.mean"] == pytest.approx(table.loc[name, "value"], abs=1e-5)
        value = parent.data.metrics[f"{name}.image_auroc.mean.difference"]
        assert value == pytest.approx(table.loc[name, "difference"], abs=1e-5)
    assert by["slow"].data.params["change.rate"] == "0.5" and by["slow"].data.tags["flawline.part"] == "rate"
    assert by["slow"].info.run_name == "learned@slow-castings-4"


def test_again_nothing_runs_and_nothing_is_logged(done: Workspace) -> None:
    before, kept = sha256_folder(done.ablation_tables), len(found_runs(done))
    [again] = main(done.root, ["learned"], [4])
    assert set(again.stages.values()) == {"unchanged"} and not again.logged
    assert sha256_folder(done.ablation_tables) == before and len(found_runs(done)) == kept


def test_a_part_alone_keeps_the_other_rows(done: Workspace) -> None:
    """Other parts that are up to date stay in the table."""
    [part] = main(done.root, ["learned"], [4], ["Rate"])
    assert {name.split("@")[0].split("-")[1] for name in part.stages} == {"default", "slow", "same"}
    assert part.variants == ("default", "slow", "blind", "same") and not part.logged


def test_the_main_line_is_left_alone(done: Workspace) -> None:
    assert not (done.out / "prompts").exists() and not (done.out / "evaluation").exists()
    assert not done.metrics.exists() and not list(done.decisions.glob("*.json"))
    assert next(stage.name for stage in pipeline.stages(done)) == "features@castings"
    assert pipeline.stale(done, {"features@castings"}) == set()
    assert set(locked_stages(done.lock)) == {"features@castings"}
    assert registry.versions(done, load_settings(done.params)) == []


def test_a_changed_variant_alone_runs_again(done: Workspace, tmp_path: Path) -> None:
    workspace = make_line(tmp_path / "w")
    shutil.copytree(done.root / ".dvc" / "cache", workspace.root / ".dvc" / "cache")
    pipeline.run(workspace, "features@castings")
    lock = sha256_file(workspace.lock)
    [first] = main(workspace.root, ["learned"], [4], ["slow"])
    assert first.variants == ("default", "slow") and set(first.stages.values()) == {"restored"}
    assert "Not run: `blind`, `same`." in first.table.read_text()
    value = table_of(workspace).loc["slow", "value"]
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("{rate: 0.5}", "{rate: 0.1}"))
    [second] = main(workspace.root, ["learned"], [4], ["slow"])
    ran = {name for name, outcome in second.stages.items() if outcome != "unchanged"}
    assert ran == {"tune-slow@castings-4", "evaluate-slow@castings-4-boards"}
    assert second.logged and table_of(workspace).loc["slow", "value"] < value
    assert sha256_file(workspace.lock) == lock


def test_without_the_main_lines_features_nothing_starts(tmp_path: Path, prefect_api: None) -> None:
    workspace = make_line(tmp_path / "w")
    with pytest.raises(FlawlineError, match=r"features@castings is not up to date — run flawline retrain"):
        main(workspace.root, ["learned"], [0])
    assert not (workspace.root / "results").exists()


@pytest.mark.parametrize(
    ("method", "parts", "told"),
    [
        ("words", [], "no variants of 'words'"),
        ("learned", ["mask"], "neither a variant nor a part 'mask' — it has slow, blind, same"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_made(
    tmp_path: Path, method: str, parts: list[str], told: str
) -> None:
    workspace = make_line(tmp_path / "w")
    with pytest.raises(FlawlineError, match=told):
        main(workspace.root, [method], [], parts)
    assert not workspace.ablation(method).exists()


def test_no_variant_is_a_challenger(done: Workspace) -> None:
    """A retraining logged beside an ablation knows the methods of tune.methods and no variant."""
    settings = load_settings(done.params)
    assert {cell.method for cell in cells(settings)} == set(settings.tune.methods)
    before = {run.info.run_id for run in found_runs(done)}
    with pytest.raises(FlawlineError):  # the main line was not evaluated: variants are no stand-in for it
        log_retraining(done, settings, "r")
    for run in found_runs(done):
        assert run.info.run_id in before or run.data.tags["flawline.kind"] == "retraining"
