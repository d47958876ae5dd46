"""Which folders are new types, against an image table and against the version in data.dvc."""

import os
from pathlib import Path

import pandas as pd
import pytest

import small_line
from flawline.files import write_parquet
from flawline.new_types import events
from flawline.new_types.look import known_types, look
from flawline.settings import load_settings
from flawline.workspace import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Two test sets with a type each, and an image table that has both."""
    (tmp_path / "params.yaml").write_text(small_line.PARAMS)
    place = Workspace(tmp_path)
    for dataset in ("boards", "fabrics"):
        put(place, dataset, "nut", "good", 2)
        put(place, dataset, "nut", "crack", 2)
    rows = [(d, "nut", "test", t) for d in ("boards", "fabrics") for t in ("good", "crack")]
    write_parquet(place.manifest, pd.DataFrame(rows, columns=["dataset", "category", "split", "defect"]))
    return place


def put(place: Workspace, dataset: str, category: str, defect: str, number: int) -> Path:
    folder = place.data / dataset / category / "test" / defect
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(number):
        (folder / f"{k}.png").write_bytes(f"{dataset}{category}{defect}{k}".encode())
    return folder


def found(place: Workspace) -> list[tuple[str, str, tuple[str, ...], int]]:
    return [(n.dataset, n.defect, n.categories, n.images) for n in look(place, load_settings(place.params))]


def test_what_the_table_has_is_known(place: Workspace) -> None:
    assert found(place) == []


def test_a_new_folder_is_new_and_an_empty_or_hidden_or_foreign_one_is_not(place: Workspace) -> None:
    put(place, "boards", "nut", "scratch", 3)
    (place.data / "boards" / "nut" / "test" / "empty").mkdir()
    put(place, "boards", "nut", ".copying", 3)
    put(place, "elsewhere", "nut", "dent", 3)  # params.yaml does not name it
    (place.data / "boards" / "nut" / "test" / "notes").mkdir()
    (place.data / "boards" / "nut" / "test" / "notes" / "readme.txt").write_text("no picture")
    assert found(place) == [("boards", "scratch", ("nut",), 3)]


def test_one_event_for_all_categories_of_a_type_and_masks_are_part_of_it(place: Workspace) -> None:
    put(place, "boards", "nut", "scratch", 2)
    put(place, "boards", "schraube ü", "scratch", 1)
    masks = place.data / "boards" / "nut" / "ground_truth" / "scratch"
    masks.mkdir(parents=True)
    (masks / "0_mask.png").write_bytes(b"mask")
    assert found(place) == [("boards", "scratch", ("nut", "schraube ü"), 3)]
    [new] = look(place, load_settings(place.params))
    assert len(new.files) == 4 and len(new.stamps) == 4 and masks / "0_mask.png" in new.files


def test_a_known_type_is_new_for_another_category(place: Workspace) -> None:
    put(place, "boards", "bolt", "crack", 2)
    assert found(place) == [("boards", "crack", ("bolt",), 2)]


def test_stamps_tell_every_change_whatever_the_clock_says(place: Workspace) -> None:
    folder = put(place, "boards", "nut", "scratch", 2)
    settings = load_settings(place.params)

    def stamps() -> object:
        return [new.stamps for new in look(place, settings)]

    for moment in (1, 4e9):  # 1970 and 2096
        for file in folder.iterdir():
            os.utime(file, (moment, moment))
        before = stamps()
        assert stamps() == before
        (folder / "0.png").write_bytes(b"other bytes of it")
        os.utime(folder / "0.png", (moment, moment))
        assert stamps() != before, "same time, another file"
    before = stamps()
    (folder / "1.png").rename(folder / "2.png")
    assert stamps() != before


def test_a_type_whose_retraining_failed_is_looked_at_again(place: Workspace) -> None:
    """Its table was made before the checks refused it, so the table alone would say that it is known."""
    put(place, "boards", "nut", "scratch", 2)
    [new] = look(place, load_settings(place.params))
    event = events.event_id(place, "boards", "scratch", new.files)
    events.note_announced(place, event, "boards", "scratch")
    table = pd.read_parquet(place.manifest)
    table.loc[len(table)] = ["boards", "nut", "test", "scratch"]
    write_parquet(place.manifest, table)
    assert found(place) == [("boards", "scratch", ("nut",), 2)]
    events.note_answered(place, [event], "result")
    assert found(place) == []


def test_without_a_table_the_version_tells_and_without_a_version_nothing_is_new(place: Workspace) -> None:
    from dvc.repo import Repo

    place.manifest.unlink()
    assert known_types(place) is None and found(place) == []
    small_line.init_dvc(place.root)
    with Repo(str(place.root)) as repo:
        repo.add([str(place.data)])
    known = {(d, "nut", t) for d in ("boards", "fabrics") for t in ("good", "crack")}
    assert known_types(place) == known
    put(place, "boards", "nut", "scratch", 1)
    assert found(place) == [("boards", "scratch", ("nut",), 1)]
    place.manifest.write_bytes(b"cut off in the mid")
    assert known_types(place) == known


def test_a_data_set_that_is_one_category(place: Workspace) -> None:
    folder = place.data / "castings" / "test" / "scratch"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(b"x")
    assert found(place) == [("castings", "scratch", ("castings",), 1)]
