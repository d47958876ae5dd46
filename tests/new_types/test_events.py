"""What an event's id stands for, and what is remembered of it."""

from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.new_types import events
from flawline.workspace import Workspace


def files(workspace: Workspace, *names: str) -> list[Path]:
    made = []
    for name in names:
        file = workspace.data / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        made.append(file)
    return made


def test_an_id_stands_for_the_content_wherever_and_in_whatever_order(tmp_path: Path) -> None:
    one, other = Workspace(tmp_path / "one"), Workspace(tmp_path / "other")
    names = ["boards/nut/test/scratch/0.png", "boards/nut/ground_truth/scratch/0_mask.png"]
    first = events.event_id(one, "boards", "scratch", files(one, *names))
    assert first == events.event_id(other, "boards", "scratch", files(other, *reversed(names)))
    assert events.check_id(first) == first
    changed = files(one, *names)
    changed[0].write_text("another picture")
    assert events.event_id(one, "boards", "scratch", changed) != first
    assert events.event_id(other, "fabrics", "scratch", files(other, *names)) != first
    assert events.event_id(other, "boards", "dent", files(other, *names)) != first


def test_announced_and_answered_are_kept_over_restarts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first, second = "0" * 32, "f" * 32
    assert events.announced(workspace) == {} and not events.is_answered(workspace, first)
    events.note_announced(workspace, first, "boards", "scratch")
    events.note_announced(workspace, second, "boards", "dent")
    events.note_answered(workspace, [first], "result")
    again = Workspace(tmp_path)
    assert set(events.announced(again)) == {first, second}
    assert events.unanswered(again) == {second: {"dataset": "boards", "defect": "dent"}}
    assert events.is_answered(again, first)


@pytest.mark.parametrize("wrong", ["", "../../params", "0" * 31, "G" * 32, "0" * 33, "0" * 32 + "\n"])
def test_what_names_files_is_checked(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(FlawlineError, match="is no event id"):
        events.note_announced(Workspace(tmp_path), wrong, "boards", "scratch")
    assert list(tmp_path.iterdir()) == []


def test_workspaces_of_one_name_have_keys_of_their_own(tmp_path: Path) -> None:
    keys = {events.workspace_key(Workspace(tmp_path / part / "wörk space")) for part in "ab"}
    assert len(keys) == 2 and all(key.startswith("w-rk-space-") for key in keys)
    assert events.resource(Workspace(tmp_path)).startswith("flawline.workspace.")
