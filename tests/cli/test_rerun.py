"""`flawline rerun`: what it prints, and its exit codes."""

from pathlib import Path

import pytest

from flawline.cli.app import run
from flawline.rerun.differences import Difference
from flawline.track.recorded import Recorded
from flawline.workspace import Workspace

RECORDED = Recorded("a" * 32, "b" * 40, "c" * 64, "none", Path("nowhere"))


@pytest.mark.parametrize(
    ("differences", "computed", "code", "told"),
    [
        ((), True, 0, "the same:  run " + "a" * 32 + ": 3 outputs of 2 stages"),
        (
            (Difference("compare", "input", "out/prompts", "1", "2"),),
            True,
            0,
            "note:      compare: input out/prompts: recorded 1, here 2; what was made from it is the same",
        ),
        (
            (Difference("tune", "output", "out/p", "1", "2", True),),
            True,
            1,
            "is not reproduced: 1 differences; same inputs, other bytes in: tune",
        ),
        ((Difference("tune", "input", "src", "1", "2"),), False, 1, "so nothing was run"),
    ],
)
def test_what_it_says(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    repository: Path,
    differences: tuple[Difference, ...],
    computed: bool,
    code: int,
    told: str,
) -> None:
    monkeypatch.syspath_prepend(str(repository))
    import flows.rerun as flow

    found = flow.Rerun(
        RECORDED, ("tune", "evaluate"), 3, differences, ("torch: recorded 1, here 2",), computed
    )
    (workspace.root / "flows").mkdir()
    (workspace.root / "flows" / "rerun.py").touch()
    monkeypatch.chdir(workspace.root)
    asked = []
    monkeypatch.setattr(flow, "rerun", lambda *given: asked.append(given) or found)
    assert run(["rerun", "aaaaaaaa", "--into", "there", "--keep"]) == code
    assert asked[0][2:] == ("aaaaaaaa", workspace.root / "there", True)
    output = capsys.readouterr().out
    assert told in output and "machine:   torch: recorded 1, here 2" in output


def test_outside_a_checkout_it_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    assert run(["rerun", "aaaaaaaa"]) == 2
    assert "has no flows/rerun.py" in capsys.readouterr().err
