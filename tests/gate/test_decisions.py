"""decisions/: appended, never changed, never twice."""

from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.gate import decisions
from flawline.workspace import Workspace


def record(
    verdict: str = "stay", challenger: str = "b", champion: str | None = "a", against: str = "champion"
) -> dict:
    return {
        "champion": {"sha256": champion} if champion else None,
        "challenger": {"sha256": challenger},
        "against": against,
        "tests": [],
        "verdict": verdict,
        "reason": "…",
        "results": "r",
    }


def test_numbers_rise_and_files_stay(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert decisions.history(workspace) == []
    first = decisions.append(workspace, record("promote", champion=None))
    before = first.read_bytes()
    assert [first.name, decisions.append(workspace, record()).name] == ["0001-promote.json", "0002-stay.json"]
    assert first.read_bytes() == before and b"T" not in before.replace(b"\n", b"")
    assert [row["number"] for row in decisions.history(workspace)] == [1, 2]


def test_numbers_sort_as_numbers_and_gaps_are_not_filled(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for number in (9999, 10000, 7):
        (tmp_path / "decisions").mkdir(exist_ok=True)
        (tmp_path / "decisions" / f"{number:04d}-stay.json").write_text('{"verdict": "stay"}')
    (tmp_path / "decisions" / "README.md").write_text("not a decision")
    assert [row["number"] for row in decisions.history(workspace)] == [7, 9999, 10000]
    assert decisions.append(workspace, record()).name == "10001-stay.json"


def test_a_decision_is_found_by_both_sides_and_the_results(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    path = decisions.append(workspace, record())
    found = decisions.find(workspace, "b", "a", "r")
    assert found is not None and found[1] == path
    for other in (("a", "b", "r"), ("b", None, "r"), ("b", "a", "s")):
        assert decisions.find(workspace, *other) is None


def test_other_settings_of_the_gate_are_another_decision(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    decisions.append(workspace, record() | {"inputs": {"settings": {"margin": 0.02}}})
    assert decisions.find(workspace, "b", "a", "r", {"margin": 0.02}) is not None
    assert decisions.find(workspace, "b", "a", "r") is not None
    assert decisions.find(workspace, "b", "a", "r", {"margin": 0.05}) is None
    older = tmp_path / "older"
    decisions.append(Workspace(older), record())
    assert decisions.find(Workspace(older), "b", "a", "r", {"margin": 0.05}) is not None


def test_a_decision_is_found_by_its_number(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(FlawlineError, match="none yet"):
        decisions.by_number(workspace, 1)
    decisions.append(workspace, record("promote"))
    assert decisions.by_number(workspace, 1)["verdict"] == "promote"
    with pytest.raises(FlawlineError, match="no decision 0002 — decisions: 1 to 1"):
        decisions.by_number(workspace, 2)


def test_known_types_are_those_a_champion_was_judged_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert decisions.known_types(workspace, "b") is None
    decisions.append(
        workspace, record("promote", challenger="b") | {"types": {"boards": {"hole": 3, "crack": 9}}}
    )
    later = {"boards": {"crack": 9, "hole": 3, "stain": 8}}
    decisions.append(workspace, record("stay", challenger="c", champion="b") | {"types": later})
    assert decisions.known_types(workspace, "b") == {"boards": ["crack", "hole"]}, (
        "not what came when it served"
    )
    assert decisions.known_types(workspace, "c") == {"boards": ["crack", "hole", "stain"]}
    decisions.append(workspace, record("promote", challenger="d"))
    assert decisions.known_types(workspace, "d") is None, "an older version's decision tells no types"


def test_only_what_was_made_champion_has_served(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    decisions.append(workspace, record("stay", challenger="b"))
    assert not decisions.has_served(workspace, "b")
    decisions.append(workspace, record("promote", challenger="c"))
    decisions.append(workspace, decisions.by_hand("rollback", {"sha256": "a"}, {"sha256": "c"}, "…"))
    assert decisions.has_served(workspace, "c") and decisions.has_served(workspace, "a")


def test_what_a_person_did_is_no_judgement(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    decisions.append(workspace, record("promote", against=decisions.BY_HAND))
    assert decisions.find(workspace, "b", "a", "r") is None


def test_a_rollback_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    decisions.append(workspace, record("promote", challenger="b", champion="a"))
    assert not decisions.was_rolled_back(workspace, "b")
    decisions.append(workspace, record("rollback", challenger="a", champion="b", against=decisions.BY_HAND))
    assert decisions.was_rolled_back(workspace, "b") and not decisions.was_rolled_back(workspace, "a")
    decisions.append(workspace, record("rollback", challenger="b", champion="a", against=decisions.BY_HAND))
    assert not decisions.was_rolled_back(workspace, "b") and decisions.was_rolled_back(workspace, "a")
    decisions.append(workspace, record("promote", challenger="a", champion="b", against=decisions.BY_HAND))
    assert not decisions.was_rolled_back(workspace, "a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reason": "no verdict"}'])
def test_a_damaged_decision_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "decisions").mkdir()
    (tmp_path / "decisions" / "0001-stay.json").write_text(text)
    with pytest.raises(FlawlineError, match="0001-stay"):
        decisions.history(Workspace(tmp_path))


def test_two_of_one_number_are_named(tmp_path: Path) -> None:
    (tmp_path / "decisions").mkdir()
    for name in ("0001-stay.json", "0001-promote.json"):
        (tmp_path / "decisions" / name).write_text('{"verdict": "stay"}')
    with pytest.raises(FlawlineError, match="number 0001"):
        decisions.append(Workspace(tmp_path), record())
