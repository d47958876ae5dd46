"""`flawline watch` and `flawline defect add`: what is called, what is said, and where a command goes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from flawline.cli import defect as defect_command
from flawline.cli.app import run
from flawline.errors import FlawlineError
from flawline.files import sha256_folder
from flawline.watch.drift import Drift, Shift
from flawline.watch.gather import Place
from flawline.watch.intake import Added
from flawline.watch.look import Look
from flawline.watch.state import GOOD, State
from flawline.workspace import Workspace


@pytest.fixture
def champion(at: Workspace, stub: Callable[..., list]) -> Path:
    """A prompt set in the registry's place; its detector is never asked anything here."""
    folder = at.root / "prompts"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    stub("flawline.track.registry", "resolve", returns=folder)
    (at.root / "in").mkdir()
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from flawline.detector import Detector

    calls: list[Path] = []
    monkeypatch.setattr(
        Detector, "open", staticmethod(lambda folder, root: calls.append(folder) or "detector")
    )
    return calls


def found(**more: Any) -> Look:
    drift = Drift(40, 60, (Shift("looks", 0.6, 1e-9, True), Shift("scores", 0.1, 0.5, False)))
    return Look({"good": 2, "new": 1}, {"good": 5, "new": 6}, [3], [2], drift, ["a.png: truncated"], **more)


def test_a_look_says_what_is_new(
    champion: Path, opened: list[Path], at: Workspace, stub: Callable[..., list], capsys: Any
) -> None:
    looked = stub("flawline.watch.look", "look", returns=found())
    assert run(["watch", "in", "--once"]) == 0
    out = capsys.readouterr().out
    assert "bad image, skipped: a.png: truncated" in out
    assert "looked: 2 good, 1 new; 11 images in all; drift of the looks of good images: looks D 0.60" in out
    assert (
        f"REVIEW: item 3 looks like a new defect type: {at.root / 'reports' / 'review' / 'item-3.html'}"
        in out
    )
    assert "review item 2 got more images" in out and "DRIFT: good images differ" in out
    [call] = looked
    assert call[2:4] == ("detector", sha256_folder(champion)) and call[4].folder == (at.root / "in").resolve()


def test_it_goes_on_looking_and_opens_a_champion_once(
    champion: Path, opened: list[Path], at: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """An error in a later look is told, and does not end it; another champion is opened."""
    from flawline.cli import watch as command
    from flawline.watch import look as module

    pauses: list[float] = []
    looks: list[str] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            (champion / "card.json").write_text('{"another": true}')
        if len(pauses) == 4:
            raise KeyboardInterrupt

    def one(workspace: Any, settings: Any, detector: Any, prompts: str, *_: Any) -> Look:
        looks.append(prompts)
        if len(looks) == 2:
            raise FlawlineError("s3://line: connection refused", "check the network")
        return found()

    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(module, "look", one)
    assert run(["watch", "in", "--interval", "7"]) == 130
    assert pauses == [7] * 4 and len(looks) == 4 and len(set(looks)) == 2 and len(opened) == 2
    assert (
        "error: s3://line: connection refused — check the network; trying again in 7 s"
        in capsys.readouterr().err
    )


def test_the_first_look_ends_with_its_error(
    champion: Path, opened: list[Path], at: Workspace, one_error: Callable[[], str]
) -> None:
    assert run(["watch", "gone"]) == 2
    assert "gone is no folder" in one_error()
    assert run(["watch"]) == 2
    assert "nothing to watch — name a folder" in one_error()


def test_options_may_stand_before_the_source_and_the_source_in_params(
    champion: Path, opened: list[Path], at: Workspace, stub: Callable[..., list]
) -> None:
    looked = stub("flawline.watch.look", "look", returns=found())
    assert run(["watch", "--once", "in"]) == 0
    at.params.write_text(at.params.read_text("utf-8").replace("  source: null  ", "  source: in  "), "utf-8")
    assert run(["watch", "--once"]) == 0
    assert len(looked) == 2 and looked[0][4] == looked[1][4]


def test_help_lists_the_decisions(capsys: Any) -> None:
    assert run(["watch", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("accept", "reject", "list", "look"))
    assert run(["watch", "accept"]) == 2


def test_items_are_listed_and_a_wrong_number_is_told(
    at: Workspace, capsys: Any, one_error: Callable[[], str]
) -> None:
    with State(at.state / "watch") as state, state.writing():
        state.add_image("a", "a.png", GOOD)
        state.add_item("burn", "burn mark", 0.9)
    assert run(["watch", "list"]) == 0
    out = capsys.readouterr().out
    assert "burn mark" in out and "1 good" in out and "index.html" in out
    assert run(["watch", "reject", "4"]) == 2
    assert "there is no review item 4 — open: 1" in one_error()


def added(**more: Any) -> Added:
    values = {"images": 6, "there": 0, "files": [], "new_type": True, "undone": False, **more}
    return Added(Place("boards", "pcb", "burn"), "burn mark", **values)


def test_acceptance_goes_the_labelled_way(at: Workspace, stub: Callable[..., list], capsys: Any) -> None:
    accepted = stub("flawline.watch.accept", "accept", returns=added())
    told = stub("flawline.cli.defect", "announce")
    line = [
        "watch",
        "accept",
        "2",
        "--category",
        "pcb",
        "--name",
        "burn",
        "--words",
        "burn mark",
        "--retrain",
    ]
    assert run(line) == 0
    assert accepted[0][2:] == (2, "pcb", "burn", "burn mark", None, None)
    assert told[0][2:] == (added(), True)
    assert "added 6 images to data/boards/pcb/test/burn, in words “burn mark”" in capsys.readouterr().out


def test_a_defect_is_added_and_announced(
    at: Workspace, stub: Callable[..., list], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    given = stub("flawline.watch.intake", "add_defect", returns=added(there=2))
    stub("flawline.track.registry", "by_alias")
    emitted: list[Added] = []
    monkeypatch.setattr(defect_command, "_emit", lambda w, s, one: emitted.append(one) or True)
    line = ["defect", "add", "burn", "a.png", "s3://b/x", "--category", "pcb", "--words", "burn mark"]
    assert run(line) == 0
    assert given[0][2:6] == ("burn", ["a.png", "s3://b/x"], "pcb", "burn mark")
    out = capsys.readouterr().out
    assert "; 2 stood there already" in out and "told the server: retraining starts there" in out
    assert "no champion serves yet" in out and emitted == [added(there=2)]


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("dapo", "until then the champion (version 3, dapo) names “burn mark” by its words alone"),
        ("human_free", "finds defects and names none: it is no method that names types"),
    ],
)
def test_it_is_said_what_the_champion_makes_of_the_type(
    at: Workspace, stub: Callable[..., list], capsys: Any, method: str, told: str
) -> None:
    stub("flawline.watch.intake", "add_defect", returns=added(images=0, there=6, undone=True))
    stub("flawline.track.registry", "by_alias", returns=SimpleNamespace(version="3", method=method))
    assert run(["defect", "add", "burn", "a.png", "--category", "pcb"]) == 0
    out = capsys.readouterr().out
    assert told in out and "next: flawline retrain" in out, "a workspace without flows emits nothing"
    assert "already holds exactly these 6 images: nothing to do" in out and "took back what an earlier" in out


def test_a_data_set_that_is_not_in_use_starts_nothing(
    at: Workspace, stub: Callable[..., list], capsys: Any
) -> None:
    one = Added(Place("spare", "pcb", "burn"), "burn mark", 6, 0, [], True, False)
    stub("flawline.watch.intake", "add_defect", returns=one)
    assert run(["defect", "add", "burn", "a.png", "--category", "pcb", "--retrain"]) == 0
    assert "spare is in neither data.train nor data.test" in capsys.readouterr().out


def test_while_a_retraining_runs_nothing_is_added(
    at: Workspace, tmp_path: Path, one_error: Callable[[], str]
) -> None:
    from filelock import FileLock

    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    at.state.mkdir(exist_ok=True)
    with FileLock(at.state / "retrain.lock"):
        assert run(["defect", "add", "burn", str(tmp_path / "a.png"), "--category", "pcb"]) == 2
    assert "another retraining is running" in one_error() and not at.data.exists()
