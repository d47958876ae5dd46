from pathlib import Path

import pytest

from flawline.data.groups import GROUPS, groups_text, read_groups
from flawline.data.ingest import add_dataset
from flawline.data.layouts import read_layout, read_source
from flawline.data.manifest import build_manifest
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

from .trees import category, picture


def test_written_and_read_again(tmp_path: Path) -> None:
    groups = {"a, b/train/good/0.png": 'part "7"', "a/test/good/ä.png": "7"}
    (tmp_path / GROUPS).write_text(groups_text(groups), encoding="utf-8")
    assert read_groups(tmp_path) == groups
    assert groups_text({"b": "1", "a": "2"}) == "image,group\na,2\nb,1\n"
    assert read_groups(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("", "first line is not 'image,group'"),
        ("file,part\na,b\n", "first line is not 'image,group'"),
        ("image,group\na\n", "line 2 does not hold an image and a group"),
        ("image,group\na,\n", "line 2 does not hold an image and a group"),
        ("image,group\na,1\na,2\n", "line 3 gives a a second group"),
        ('image,group\n"a,1\n', "is not CSV"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, clause: str) -> None:
    (tmp_path / GROUPS).write_text(text, encoding="utf-8")
    with pytest.raises(FlawlineError, match=clause):
        read_groups(tmp_path)


def test_groups_of_a_source_reach_the_manifest(workspace: Workspace, tmp_path: Path) -> None:
    category(tmp_path / "set" / "gear", train=2, test=2)
    groups = {"gear/train/good/0.png": "7", "gear/train/good/1.png": "7", "gear/test/scratch/0.png": "8"}
    (tmp_path / "set" / GROUPS).write_text(groups_text(groups), encoding="utf-8")
    add_dataset(workspace, tmp_path / "set", "castings")
    category(workspace.data / "boards" / "pcb", train=1, test=1)
    table = build_manifest(workspace.data, ["castings", "boards"])
    named = table[table["group"].notna()]
    assert dict(zip(named["image"], named["group"], strict=True)) == {
        f"castings/{path}": group for path, group in groups.items()
    }
    assert str(table["group"].dtype) == "str" and list(table.columns)[-1] == "group"
    # An image that was taken out since is no reason to stop.
    (workspace.data / "castings" / "gear" / "train" / "good" / "1.png").unlink()
    assert len(build_manifest(workspace.data, ["castings"])) == len(table[table["dataset"] == "castings"]) - 1


def test_a_source_that_names_no_image(tmp_path: Path) -> None:
    category(tmp_path / "gear", train=1, test=1)
    (tmp_path / GROUPS).write_text("image,group\ngear/train/good/9.png,7\n", encoding="utf-8")
    with pytest.raises(FlawlineError, match=r"groups\.csv names gear/train/good/9\.png, which is no image"):
        read_source(tmp_path)


def test_a_group_of_a_plain_folder_stays_on_one_side(tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / "good" / f"{i}.png")
    groups = {f"good/{i}.png": f"part {i // 3}" for i in range(60)}
    (tmp_path / GROUPS).write_text(groups_text(groups), encoding="utf-8")
    _, records = read_layout(tmp_path, "folder")
    sides: dict[str, set[str]] = {}
    for record in records:
        sides.setdefault(str(record.group), set()).add(record.split)
    assert len(sides) == 20 and all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "test"}
