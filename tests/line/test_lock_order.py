"""dvc.lock in the pipeline's order: the same bytes, whoever ended first."""

from pathlib import Path

import pytest

import small_line
from flawline.line import lock_order, pipeline
from flawline.line.lock import locked_stages
from flawline.line.lock_order import arrange, arranged
from flawline.workspace import Workspace

LINE = f"""\
vars: [{{long: "{"word " * 40}"}}]
stages:
  first: {{cmd: echo 1 > a, outs: [a]}}
  second: {{cmd: "echo 2 > b; : a command so long that DVC may break its line: ${{long}}", outs: [b]}}
  third: {{cmd: cat a b > c, deps: [a, b], outs: [c]}}
"""


def entry(name: str) -> str:
    return f"  {name}:\n    cmd: echo {name}\n    outs:\n    - path: out/{name}\n"


def test_entries_move_whole_and_gone_ones_go_behind() -> None:
    text = "schema: '2.0'\nstages:\n" + "".join(map(entry, ["old b", "z@1", "old a", "a", "m"]))
    wanted = "schema: '2.0'\nstages:\n" + "".join(map(entry, ["a", "m", "z@1", "old a", "old b"]))
    assert arranged(text, ["data.dvc", "a", "m", "z@1", "not yet"]) == wanted
    assert arranged(wanted, ["a", "m", "z@1"]) == wanted


@pytest.mark.parametrize("name", ["'1'", '"on"'])
def test_quoted_names_are_known(name: str) -> None:
    text = "stages:\n" + entry("b") + entry(name) + "datasets:\n  b: {}\n"
    assert (
        arranged(text, [name.strip("'\""), "b"])
        == "stages:\n" + entry(name) + entry("b") + "datasets:\n  b: {}\n"
    )


@pytest.mark.parametrize(
    "text", ["", "schema: '2.0'\n", "schema: '2.0'\nstages: {}\n", "stages:\n  # a word\n"]
)
def test_what_has_no_entries_stays(text: str) -> None:
    assert arranged(text, ["a"]) == text


def test_the_order_of_ending_leaves_no_trace(tmp_path: Path) -> None:
    texts, moved = [], []
    for names in (["first", "second", "third"], ["second", "first", "third"]):
        root = tmp_path / names[0]
        root.mkdir()
        (root / "dvc.yaml").write_text(LINE)
        small_line.init_dvc(root)
        workspace = Workspace(root)
        for name in names:
            assert pipeline.run(workspace, name) == "ran"
        before = locked_stages(workspace.lock)
        order = [stage.name for stage in pipeline.stages(workspace)]
        moved.append(arrange(workspace, order))
        assert locked_stages(workspace.lock) == before and pipeline.stale(workspace) == set()
        assert not arrange(workspace, order), "once is enough"
        texts.append(workspace.lock.read_bytes())
    assert moved == [False, True] and texts[0] == texts[1]


def test_no_lock_is_no_matter(tmp_path: Path) -> None:
    assert lock_order.arrange(Workspace(tmp_path), ["a"]) is False
