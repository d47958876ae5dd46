"""An ablation's DVC project: the main line's stages with outputs apart, which the main line's DVC does not see."""

import os
import shutil
from pathlib import Path

import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.line import pipeline
from flawline.line.ablation_graph import ablation_stages, main_stage_of, make_project, variant_of
from flawline.line.lock import locked_stages
from flawline.settings import Settings, load_settings, parse_settings
from flawline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = {
    "no_mpts": {"part": "MPTS", "why": "no guide", "change": {"guidance": "none"}},
    "whole": {"part": "OAGM mask", "why": "whole image", "change": {"synth.object_mask": "whole"}},
    "no_laa": {"part": "LAA", "why": "all patches", "change": {"features.paths.laa.radius": None}},
}


@pytest.fixture
def settings() -> Settings:
    raw = load_settings(ROOT / "params.yaml").model_dump()
    return parse_settings(raw | {"ablations": {"human_free": VARIANTS}})


@pytest.fixture
def copied(tmp_path: Path) -> Workspace:
    """The repository's dvc.yaml and nothing else."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    return Workspace(tmp_path)


def test_a_variant_has_the_stages_that_make_what_is_its_own(copied: Workspace, settings: Settings) -> None:
    found = ablation_stages(copied, settings, "human_free", [0])
    own = {
        name: {main_stage_of(s) for s in found if variant_of(s) == name} for name in ("default", *VARIANTS)
    }
    assert own == {
        "default": {"tune", "evaluate"},
        "no_mpts": {"tune", "evaluate"},
        "whole": {"synthesize", "features_train", "tune", "evaluate"},
        "no_laa": {"features_train", "features_test", "tune", "evaluate"},
    }


def test_a_stage_is_the_main_lines_with_its_outputs_apart(copied: Workspace, settings: Settings) -> None:
    from ruamel.yaml import YAML

    main = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]["tune"]
    stage = ablation_stages(copied, settings, "human_free", [3, 5])["tune-no_mpts"]
    assert stage["matrix"] == {"train": settings.data.train, "seed": [3, 5]}
    assert stage["cmd"] == (
        "cd ../../.. && flawline stage tune --method human_free --train ${item.train} --seed ${item.seed}"
        " --variant human_free@no_mpts"
    )
    assert stage["deps"] == [f"main/{path}" for path in main["deps"]]
    [(file, params)] = stage["params"][0].items()
    assert file == "main/params.yaml"
    assert params[:-1] == [key.replace("${item.method}", "human_free") for key in main["params"]]
    assert params[-1] == "ablations.human_free.no_mpts.change"
    cell = "human_free/${item.train}/${item.seed}"
    assert stage["outs"] == [f"no_mpts/prompts/{cell}", f"no_mpts/tuning/{cell}"]


def test_own_anomalies_and_features_are_what_the_next_stage_reads(
    copied: Workspace, settings: Settings
) -> None:
    found = ablation_stages(copied, settings, "human_free", [0])
    assert "whole/synth/${item.train}" in found["features_train-whole"]["deps"]
    assert "whole/features/train/${item.train}" in found["tune-whole"]["deps"]
    assert "main/out/features/test/${item.test}" in found["evaluate-whole"]["deps"]
    assert "no_laa/features/test/${item.test}" in found["evaluate-no_laa"]["deps"]
    assert "main/out/synth/${item.train}" in found["features_train-no_laa"]["deps"]
    outs = [out for stage in found.values() for out in stage["outs"]]
    assert len(set(outs)) == len(outs) and not any(out.startswith("main") for out in outs)


def test_an_unknown_matrix_is_refused(copied: Workspace, settings: Settings) -> None:
    path = copied.root / "dvc.yaml"
    path.write_text(path.read_text().replace("seed: ${tune.seeds}", "lot: [1]"))
    with pytest.raises(FlawlineError, match="goes through 'lot'"):
        ablation_stages(copied, settings, "human_free", [0])
    path.write_text("stages: 3")
    with pytest.raises(FlawlineError, match=r"dvc\.yaml has no stages"):
        ablation_stages(copied, settings, "human_free", [0])


# --- with DVC ------------------------------------------------------------------------------------------

LINE = """\
stages:
  features:
    matrix: {train: "${data.train}"}
    cmd: mkdir -p out/features/train/${item.train} && cp -r src out/features/train/${item.train}/
    deps: [src]
    outs: ["out/features/train/${item.train}"]
  tune:
    matrix: {method: "${tune.methods}", train: "${data.train}", seed: "${tune.seeds}"}
    cmd: mkdir -p out/prompts/${item.method}/${item.train}/${item.seed} && true --method ${item.method}
    deps: ["out/features/train/${item.train}", src]
    params: ["methods.${item.method}"]
    outs: ["out/prompts/${item.method}/${item.train}/${item.seed}"]
"""
ABLATIONS = "ablations: {learned: {half: {part: a, why: b, change: {rate: 0.5}}}}\n"


@pytest.fixture
def line(tmp_path: Path) -> Workspace:
    """A main line of two stages; what it tunes are folders that hold a word."""
    root = tmp_path / "wörk space"
    (root / "src").mkdir(parents=True)
    (root / "src" / "code.py").write_text("1")
    (root / ".dvcignore").write_text("__pycache__\n")
    (root / "dvc.yaml").write_text(LINE)
    (root / "params.yaml").write_text(small_line.PARAMS + ABLATIONS)
    small_line.init_dvc(root)
    return Workspace(root)


def project_of(line: Workspace, seeds: list[int]) -> Workspace:
    return make_project(line, load_settings(line.params), "learned", seeds)


def written(project: Workspace) -> dict[str, bytes]:
    names = ("dvc.yaml", ".dvcignore", ".dvc/config")
    return {name: (project.root / name).read_bytes() for name in names}


def test_the_project_is_made_once_and_stays_apart(line: Workspace) -> None:
    before = [stage.name for stage in pipeline.stages(line)]
    project = project_of(line, [0, 1])
    assert project.root == line.ablation("learned")
    assert (project.root / "main" / "src").resolve() == (line.root / "src").resolve()
    names = [stage.name for stage in pipeline.stages(project)]
    assert names == [f"tune-{v}@castings-{s}" for v in ("default", "half") for s in (0, 1)]
    assert [stage.name for stage in pipeline.stages(line)] == before, "the main line must not see it"
    first = written(project)
    assert written(project_of(line, [0, 1])) == first
    assert len(pipeline.stages(project_of(line, [7]))) == 2


def test_only_what_a_variant_depends_on_makes_it_stale(
    line: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is no flawline stage here; that the outputs appear where DVC expects them is all it needs."""
    made = LINE.replace("mkdir -p out/prompts/", "mkdir -p out/ablations/learned/$PLACE/prompts/")
    (line.root / "dvc.yaml").write_text(made)
    pipeline.run(line, "features@castings")
    project = project_of(line, [0])
    lock = line.lock.read_bytes()
    for variant in ("default", "half"):
        monkeypatch.setenv("PLACE", variant)
        assert pipeline.run(project, f"tune-{variant}@castings-0") == "ran"
        assert (project.root / variant / "prompts/learned/castings/0").is_dir()
    assert pipeline.stale(project) == set() and line.lock.read_bytes() == lock
    entry = locked_stages(project.lock)["tune-half@castings-0"]
    of_main = locked_stages(line.lock)["features@castings"]
    hashes = {Path(d["path"]).name: d["md5"] for d in (*of_main["deps"], *of_main["outs"])}
    assert {Path(d["path"]).name: d["md5"] for d in entry["deps"]} == hashes, (
        "the same files, the same hashes"
    )

    (line.root / "src" / "__pycache__").mkdir()
    (line.root / "src" / "__pycache__" / "code.pyc").write_text("2")
    assert pipeline.stale(project) == set(), "what .dvcignore names is ignored from here as well"

    params = line.params.read_text()
    line.params.write_text(params.replace("why: b", "why: c"))
    assert pipeline.stale(project_of(line, [0])) == set()
    line.params.write_text(params.replace("rate: 0.5", "rate: 0.6"))
    assert pipeline.stale(project_of(line, [0])) == {"tune-half@castings-0"}
    line.params.write_text(params.replace("learned: {}", "learned: {rate: 1}"))
    assert len(pipeline.stale(project_of(line, [0]))) == 2
    line.params.write_text(params)
    (line.root / "src" / "code.py").write_text("3")
    assert len(pipeline.stale(project)) == 2


def test_finished_stages_are_restored_from_the_workspaces_cache(
    line: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line.root / "dvc.yaml").write_text(
        LINE.replace("mkdir -p out/prompts/", "mkdir -p out/ablations/learned/$PLACE/prompts/")
    )
    pipeline.run(line, "features@castings")
    monkeypatch.setenv("PLACE", "half")
    pipeline.run(project_of(line, [0]), "tune-half@castings-0")
    shutil.rmtree(line.ablation("learned"))
    assert (line.root / "src" / "code.py").is_file(), "removing a project does not follow its link"
    monkeypatch.setenv("PLACE", os.devnull)
    assert pipeline.run(project_of(line, [0]), "tune-half@castings-0") == "restored"


def test_a_workspace_without_dvc_is_told_so(line: Workspace) -> None:
    shutil.rmtree(line.root / ".dvc")
    with pytest.raises(FlawlineError, match="no DVC repository"):
        project_of(line, [0])
