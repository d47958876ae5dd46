"""Looks at a small plant: what opens an item, what does not, and that nothing is ever counted twice."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import spots

from flawline.errors import FlawlineError
from flawline.files import sha256_folder
from flawline.settings import Settings
from flawline.watch.incoming import open_source
from flawline.watch.look import Look, look, named_type
from flawline.watch.state import State
from flawline.workspace import Workspace

PROMPTS = "a" * 64


def once(plant: Workspace, settings: Settings, detector: spots.Spots) -> Look:
    return look(plant, settings, detector, PROMPTS, open_source(plant, "incoming"))  # type: ignore[arg-type]


def members(plant: Workspace, number: int) -> list[str]:
    with State(plant.state / "watch") as state:
        return sorted(Path(crop.name).stem.rpartition("-")[0] for crop in state.crops(item=number))


def test_a_new_kind_opens_an_item_and_known_and_good_ones_do_not(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    arrive("good", 10)
    arrive("scratch", 7)
    arrive("burn", 4)
    first = once(plant, settings, detector)
    assert first.counts == {"good": 10, "known": 7, "new": 4} and first.opened == []
    arrive("burn", 2, start=4)
    second = once(plant, settings, detector)
    assert second.counts == {"new": 2} and second.opened == [1] and members(plant, 1) == ["burn"] * 6
    page = plant.root / "reports" / "review" / "item-1.html"
    assert page.is_file() and "flawline watch accept 1" in page.read_text()
    arrive("burn", 3, start=6)
    arrive("drop", 6)
    third = once(plant, settings, detector)
    assert third.grown == [1] and third.opened == [2]
    assert members(plant, 1) == ["burn"] * 9 and members(plant, 2) == ["drop"] * 6


def test_an_image_is_counted_once_whatever_it_is_called_and_wherever_it_lies(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    [one, two, three] = arrive("burn", 3)
    once(plant, settings, detector)
    (one.parent / "sub").mkdir()
    one.rename(one.parent / "sub" / "moved.png")
    shutil.copy(two, two.with_name("copy.png"))
    three.touch()
    again = once(plant, settings, detector)
    assert again.counts == {} and again.total == {"new": 3}
    shutil.copytree(one.parent, plant.root / "elsewhere")
    other = look(plant, settings, detector, PROMPTS, open_source(plant, "elsewhere"))  # type: ignore[arg-type]
    assert other.counts == {} and other.total == {"new": 3}


def test_the_labelled_images_are_scored_once_for_a_prompt_set(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    arrive("good", 2)
    once(plant, settings, detector)
    assert detector.seen == 16 + 8 + 2
    once(plant, settings, detector)
    assert detector.seen == 16 + 8 + 2
    look(plant, settings, detector, "b" * 64, open_source(plant, "incoming"))  # type: ignore[arg-type]
    assert detector.seen == 2 * (16 + 8) + 2


def test_a_rejected_kind_is_not_asked_again(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    from flawline.watch.accept import turn_down

    arrive("burn", 6)
    assert once(plant, settings, detector).opened == [1]
    turn_down(plant, 1)
    arrive("burn", 8, start=6)
    after = once(plant, settings, detector)
    assert after.opened == [] and after.counts["like rejected"] >= 5
    arrive("burn", 8, start=14)
    assert once(plant, settings, detector).opened == []
    arrive("drop", 6)
    assert once(plant, settings, detector).opened == [2], "another kind is asked as ever"
    with pytest.raises(FlawlineError, match="review item 1 was rejected already — open: 2"):
        turn_down(plant, 1)


def test_bad_images_are_told_once_and_skipped(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    [good] = arrive("good", 1)
    content = good.read_bytes()
    good.with_name("cut.png").write_bytes(content[: len(content) // 2])
    good.with_name("text.png").write_text("no image")
    good.with_name("empty.png").write_bytes(b"")
    good.with_name(".hidden.png").write_bytes(content)
    good.with_name("notes.txt").write_text("no image")
    good.with_name("link.png").symlink_to(plant.root / "data" / "plates" / "gear" / "test" / "good" / "0.png")
    found = once(plant, settings, detector)
    assert found.counts == {"broken": 3, "good": 1}
    assert found.problems[0] == "cut.png: truncated" and len(found.problems) == 3
    assert once(plant, settings, detector).problems == []
    shutil.copy(good.with_name("text.png"), good.with_name("text again.png"))
    assert once(plant, settings, detector).problems == []
    spots.save(good.with_name("cut.png"), "whole at last")
    assert once(plant, settings, detector).counts == {"good": 1}


def test_the_same_stream_gives_the_same_pages_and_a_second_look_changes_nothing(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable, tmp_path: Path
) -> None:
    arrive("burn", 6)
    arrive("good", 9)
    once(plant, settings, detector)
    pages = sha256_folder(plant.root / "reports" / "review")
    once(plant, settings, detector)
    assert sha256_folder(plant.root / "reports" / "review") == pages
    other = spots.make_plant(tmp_path / "other")
    shutil.copytree(plant.root / "incoming", other.root / "incoming")
    once(other, settings, detector)
    assert sha256_folder(other.root / "reports" / "review") == pages


def test_one_look_at_a_time(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    from filelock import FileLock

    arrive("good", 1)
    (plant.state / "watch").mkdir()
    with (
        FileLock(plant.state / "watch" / "lock"),
        pytest.raises(FlawlineError, match="another look is going on"),
    ):
        once(plant, settings, detector)
    assert once(plant, settings, detector).counts == {"good": 1}


SCRIPT = """
import sys, time
sys.path[:0] = [{here!r}]
from pathlib import Path
import spots
from flawline.watch.incoming import open_source
from flawline.watch.look import look
from flawline.workspace import Workspace
plant = Workspace(Path(sys.argv[1]))
settings = spots.settings_of(plant)
class Slow(spots.Spots):
    def score(self, images, more=()):
        print("batch", flush=True)
        time.sleep(0.2)
        return super().score(images, more)
detector = Slow(spots.backbone_of(settings, plant.root))
look(plant, settings, detector, "a" * 64, open_source(plant, "incoming"))
"""


def test_kill_9_in_the_middle_loses_nothing_and_counts_nothing_twice(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable, tmp_path: Path
) -> None:
    for defect in ("burn", "good", "scratch"):
        arrive(defect, 10)
    untouched = spots.make_plant(tmp_path / "untouched")
    shutil.copytree(plant.root / "incoming", untouched.root / "incoming")
    code = SCRIPT.format(here=str(Path(spots.__file__).parent))
    run = [sys.executable, "-c", code, str(plant.root)]
    child = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(
        3 + 3
    ):  # three batches of labelled images, two whole ones of those that came in, half of another
        assert child.stdout.readline() == "batch\n"
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    with State(plant.state / "watch") as state:
        assert 0 < sum(state.counts().values()) < 30, "it was killed in the middle"
    end, whole = once(plant, settings, detector), once(untouched, settings, detector)
    assert end.total == whole.total == {"good": 10, "known": 10, "new": 10}
    assert members(plant, 1) == members(untouched, 1) == ["burn"] * 10


def test_drift_is_said_and_changes_no_score(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    arrive("good", 16)
    calm = once(plant, settings, detector)
    assert not calm.drift.drifted and calm.drift.images == 16 and "no drift" in calm.drift.text
    for path in arrive("good", 64, start=100, tint=225):
        assert path.is_file()
    dark = once(plant, settings, detector)
    assert dark.counts == {"good": 64}, "they are still good images"
    assert dark.drift.drifted and "drift of the looks" in dark.drift.text
    assert "drift" in (plant.root / "reports" / "review" / "index.html").read_text()


def test_without_labelled_images_all_anomalous_ones_are_unexplained(
    plant: Workspace, detector: spots.Spots, arrive: Callable
) -> None:
    settings = spots.settings_of(plant, reference=[])
    arrive("scratch", 6)
    arrive("good", 9)
    found = once(plant, settings, detector)
    assert found.counts == {"good": 9, "new": 6} and found.opened == [1]
    assert "not judged" in found.drift.text and detector.seen == 15


def test_a_champion_that_names_types_explains_by_them(
    plant: Workspace, settings: Settings, backbone, arrive: Callable
) -> None:
    arrive("burn", 6)
    sure = spots.Spots(backbone, {"good": 0.1, "burn mark": 0.7, "scratch": 0.2})
    assert once(plant, settings, sure).counts == {"known": 6}
    assert named_type({"good": 0.1, "burn mark": 0.7, "scratch": 0.2}, 0.6) == "burn mark"
    assert named_type({"good": 0.1, "burn mark": 0.5, "scratch": 0.4}, 0.6) == ""
    assert named_type({"good": 0.1, "scratch": 0.9}, 0.6) == "", "a single type has all of it whatever it is"
    assert named_type({}, 0.6) == ""


def test_a_source_that_is_none_is_told(plant: Workspace) -> None:
    with pytest.raises(FlawlineError, match="incoming is no folder"):
        open_source(plant, "incoming")


def test_looks_are_quick_where_nothing_came(
    plant: Workspace, settings: Settings, detector: spots.Spots, arrive: Callable
) -> None:
    arrive("good", 12)
    once(plant, settings, detector)
    before, began = detector.seen, time.perf_counter()
    once(plant, settings, detector)
    assert detector.seen == before and time.perf_counter() - began < 20
