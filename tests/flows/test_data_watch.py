"""The look at data/ and the event, without a server: what is announced, when, and how often."""

import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import small_line
from flawline.errors import FlawlineError
from flawline.files import write_parquet
from flawline.new_types import events
from flawline.workspace import Workspace
from flows import data_watch
from flows.data_watch import announce
from flows.events import emit_new_type


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace that was trained on cracks, and a new folder of scratches."""
    (tmp_path / "params.yaml").write_text(small_line.PARAMS + "schedule: {settle_seconds: 0.3}\n")
    place = Workspace(tmp_path)
    table = pd.DataFrame(
        [("boards", "nut", "test", "crack")], columns=["dataset", "category", "split", "defect"]
    )
    write_parquet(place.manifest, table)
    folder = place.data / "boards" / "nut" / "test" / "scratch"
    folder.mkdir(parents=True)
    for k in range(3):
        (folder / f"{k}.png").write_bytes(bytes([k]))
    return place


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int, str]]:
    """What would have gone to a server."""
    told: list[tuple[str, str, int, str]] = []

    def emit(workspace: Workspace, dataset: str, defect: str, images: int, event: str) -> bool:
        told.append((dataset, defect, images, event))
        events.note_announced(workspace, event, dataset, defect)
        return True

    monkeypatch.setattr(data_watch, "emit_new_type", emit)
    return told


def test_a_type_at_rest_is_announced_once(place: Workspace, sent: list[tuple[str, str, int, str]]) -> None:
    assert announce(place) == ["scratch in boards (nut; 3 images): announced"]
    assert announce(place) == ["scratch in boards (nut; 3 images): announced before"]
    [(dataset, defect, images, event)] = sent
    assert (dataset, defect, images) == ("boards", "scratch", 3) and events.check_id(event)
    events.note_answered(place, [event], "result")
    assert announce(place) == ["scratch in boards (nut; 3 images): announced before"], "until a table has it"


def test_a_copy_that_still_runs_is_left_alone(
    place: Workspace, sent: list[tuple[str, str, int, str]]
) -> None:
    folder = place.data / "boards" / "nut" / "test" / "scratch"
    stop = threading.Event()

    def copying() -> None:
        number = 3
        while not stop.wait(0.02):
            (folder / f"{number}.png").write_bytes(bytes(8))
            number += 1

    copy = threading.Thread(target=copying)
    copy.start()
    try:
        [line] = announce(place)
    finally:
        stop.set()
        copy.join()
    assert line.endswith("still changing") and sent == []
    [line] = announce(place)
    assert line.endswith("announced") and len(sent) == 1


def test_the_time_of_day_has_no_part_in_it(
    place: Workspace, sent: list[tuple[str, str, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps back by a day between any two questions."""
    now = [time.time()]

    def jumps() -> float:
        now[0] -= 86400
        return now[0]

    monkeypatch.setattr(time, "time", jumps)
    assert announce(place) == ["scratch in boards (nut; 3 images): announced"]
    assert announce(place) == ["scratch in boards (nut; 3 images): announced before"]
    assert len(sent) == 1


def test_changed_content_after_a_failed_retraining_is_another_event(
    place: Workspace, sent: list[tuple[str, str, int, str]]
) -> None:
    announce(place)
    (place.data / "boards" / "nut" / "test" / "scratch" / "0.png").write_bytes(b"mended")
    assert announce(place) == ["scratch in boards (nut; 3 images): announced"]
    assert len({event for *_, event in sent}) == 2


def test_without_a_server_nothing_counts_as_announced(
    place: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not emit_new_type(place, "boards", "scratch", 3, "0" * 32)
    assert "no Prefect server is named" in capsys.readouterr().err
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert not emit_new_type(place, "boards", "scratch", 3, "0" * 32)
    assert "http://127.0.0.1:9/api did not take the event" in capsys.readouterr().err
    assert events.announced(place) == {}
    with pytest.raises(FlawlineError, match="is no event id"):
        emit_new_type(place, "boards", "scratch", 3, "../x")
