"""`--set` edits params.yaml in place: only what was asked for, only what is valid, all or nothing."""

import difflib
from pathlib import Path

import pytest

from flawline.cli.params import set_params
from flawline.errors import FlawlineError
from flawline.settings import load_settings
from flawline.workspace import Workspace


def changed_lines(before: str, after: str) -> list[str]:
    """Lines that are new, blanks inside them reduced to one."""
    diff = difflib.ndiff(before.splitlines(), after.splitlines())
    old = {" ".join(line.split()) for line in before.splitlines()}
    return [new for line in diff if line.startswith("+ ") and (new := " ".join(line[2:].split())) not in old]


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("checks.min_good=4", "min_good: 4 # good training images a category must have"),
        ("tune.seeds=[0,1]", "seeds: [0, 1]"),
        (
            "data.test=[boards, solar_el]",
            "test: [boards, solar_el] # data sets they are tested on; never one that also trains",
        ),
        (
            "backbone.image_size=240",
            "image_size: 240 # null: the model's own; else pixels, position embedding resized",
        ),
        (
            "synth.noises.paste=0.5",
            "noises: {gaussian: 1, stain: 2, line: 4, dropout: 2, paste: 0.5, shuffle: 1} # relative weights",
        ),
        (
            "features.paths.laa.radius=null",
            "laa: {attention: vv, first_block: 1, levels: [5], radius: null} # locality-aware, read after block 5 of 6",
        ),
        (
            "track.uri=http://localhost:5000",
            "uri: http://localhost:5000 # null: MLFLOW_TRACKING_URI, else sqlite below .state/",
        ),
    ],
)
def test_one_line_changes_and_comments_stay(workspace: Workspace, assignment: str, expected: str) -> None:
    before = workspace.params.read_text(encoding="utf-8")
    assert set_params(workspace.params, [assignment]) is True
    after = workspace.params.read_text(encoding="utf-8")
    assert changed_lines(before, after) == [expected]
    assert before.count("#") == after.count("#")
    load_settings(workspace.params)


def test_the_same_value_leaves_the_file_alone(workspace: Workspace) -> None:
    before = workspace.params.read_bytes()
    assert set_params(workspace.params, ["tune.seeds=[0, 1, 2]", "features.dtype=float16"]) is False
    assert workspace.params.read_bytes() == before


def test_a_method_and_its_name_can_be_set_together(workspace: Workspace) -> None:
    set_params(
        workspace.params, ["tune.methods=[words]", "gate.baseline=words", "methods.words.temperature=0.02"]
    )
    settings = load_settings(workspace.params)
    assert settings.tune.methods == ["words"] and settings.methods["words"]["temperature"] == 0.02


@pytest.mark.parametrize(
    ("assignments", "named"),
    [
        (["tune.seeds"], "is not key=value"),
        (["=3"], "is not key=value"),
        (["tune..seeds=3"], "is not key=value"),
        (["tuning.seeds=[0]"], "'tuning'"),
        (["tune.seeds.first=0"], "'tune.seeds'"),
        (["tune.sedes=[0]"], "tune.sedes"),
        (["tune.seeds=[0"], "not YAML"),
        (["tune.seeds=3"], "tune.seeds"),
        (["gate.margin=0.1", "gate.confidence=2"], "gate.confidence"),
        (["tune.methods=[nonsense]"], "nonsense"),
        (["methods.human_free.learning_rat=1"], "learning_rat"),
        (["methods.human_free.learning_rate=fast"], "learning_rate"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    workspace: Workspace, assignments: list[str], named: str
) -> None:
    before = workspace.params.read_bytes()
    with pytest.raises(FlawlineError) as caught:
        set_params(workspace.params, assignments)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert workspace.params.read_bytes() == before
    assert sorted(path.name for path in workspace.root.iterdir()) == sorted(
        path.name for path in workspace.root.iterdir() if not path.name.endswith(".partial")
    )


def test_a_broken_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("data: [", encoding="utf-8")
    with pytest.raises(FlawlineError, match="not valid YAML"):
        set_params(path, ["tune.seeds=[0]"])
    assert path.read_text(encoding="utf-8") == "data: ["
