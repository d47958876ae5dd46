"""Labelled images of a new type: taken in whole, refused whole, and taken back after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import spots
from PIL import Image

from flawline.data.vocabulary import added_types, load_vocabulary
from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_folder
from flawline.settings import Settings
from flawline.watch import intake
from flawline.watch.intake import Added, add_defect
from flawline.workspace import Workspace


@pytest.fixture(autouse=True)
def _light_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Great Expectations takes seconds: only tests that ask for `real_checks` run it."""
    if "real_checks" not in request.fixturenames:
        monkeypatch.setattr(intake, "_validate", lambda *_: None)


@pytest.fixture
def real_checks() -> None:
    """Asked for by a test that must meet the line's own checks."""


@pytest.fixture
def burns(tmp_path: Path) -> Path:
    for number in range(6):
        spots.save(tmp_path / "burns" / f"{number}.png", f"burn {number}", "burn")
    return tmp_path / "burns"


@pytest.fixture
def add(plant: Workspace, settings: Settings) -> Callable[..., Added]:
    def call(name: str, *sources: str | Path, category: str = "gear", **more: object) -> Added:
        more.setdefault("version", versioned)
        return add_defect(plant, settings, name, sources, category, **more)  # type: ignore[arg-type]

    return call


def versioned(workspace: Workspace) -> bool:
    """As DVC does it: data.dvc names what lies in data/."""
    (workspace.root / "data.dvc").write_text(sha256_folder(workspace.data))
    return True


def everything(workspace: Workspace) -> dict[str, bytes]:
    return {
        path.relative_to(workspace.root).as_posix(): path.read_bytes()
        for path in sorted(workspace.root.rglob("*"))
        if path.is_file() and not {".state", ".flawline"} & set(path.relative_to(workspace.root).parts)
    }


def test_a_category_may_be_named_as_it_is_listed(plant: Workspace, add: Callable, burns: Path) -> None:
    assert add("burn", burns, category="plates/gear").files
    assert len(list((plant.data / "plates" / "gear" / "test" / "burn").iterdir())) == 6


def test_a_type_is_taken_in_with_words_counts_and_version(
    plant: Workspace, add: Callable, burns: Path, real_checks: None
) -> None:
    source = sha256_folder(burns)
    added = add("burn", burns, words="  charred   spot ")
    folder = plant.data / "plates" / "gear" / "test" / "burn"
    assert (added.images, added.there, added.new_type, added.words) == (6, 0, True, "charred spot")
    assert sorted(path.name for path in folder.iterdir()) == [f"{k}.png" for k in range(6)]
    assert added.files == sorted(folder.iterdir()) and sha256_folder(burns) == source
    assert load_vocabulary(plant.vocabulary).defect_words("plates", "burn") == "charred spot"
    assert plant.vocabulary.read_text().startswith("# words\n") and "# thin" in plant.vocabulary.read_text()
    card = read_json(plant.data / "plates" / "dataset.json")
    assert card["counts"]["gear"]["test"] == {"burn": 6, "good": 16, "scratch": 8} and card["added"] == [
        "burn"
    ]
    assert card["source"] == "made" and card["sha256"] != "0" * 64
    assert added_types(plant.data, ["plates", "gone"]) == [("plates", "burn")]
    assert (plant.root / "data.dvc").read_text() == sha256_folder(plant.data)
    assert not list(plant.data.glob(".*")), "nothing is left beside"


def test_the_same_again_changes_nothing_and_more_images_join(
    plant: Workspace, add: Callable, burns: Path
) -> None:
    add("burn", burns)
    before = everything(plant)
    again = add("burn", burns)
    assert (again.images, again.there, again.new_type) == (0, 6, True) and everything(plant) == before
    spots.save(burns / "sub" / "0.png", "another burn", "burn")
    shutil.copy(burns / "0.png", burns / "copy.png")
    more = add("burn", burns)
    assert (more.images, more.there) == (1, 6)
    folder = plant.data / "plates" / "gear" / "test" / "burn"
    assert sorted(path.name for path in folder.iterdir()) == ["0-2.png", *(f"{k}.png" for k in range(6))]


def test_masks_come_with_their_images(plant: Workspace, add: Callable, burns: Path, tmp_path: Path) -> None:
    masks = tmp_path / "marked"
    masks.mkdir()
    for number in range(6):
        mask = Image.new("L", (spots.SIDE, spots.SIDE))
        mask.paste(255, (10, 10, 20, 20))
        mask.save(masks / f"{number}_mask.png")
    added = add("burn", burns, masks=masks)
    folder = plant.data / "plates" / "gear" / "ground_truth" / "burn"
    assert sorted(path.name for path in folder.iterdir()) == [f"{k}_mask.png" for k in range(6)]
    assert len(added.files) == 12
    (masks / "5_mask.png").unlink()
    spots.save(burns / "7.png", "burn 7", "burn")
    with pytest.raises(FlawlineError, match=r"5\.png has no mask in .*marked — add 5_mask\.png"):
        add("burn", burns, masks=masks)


def test_what_cannot_be_taken_in_is_named_and_nothing_changes(
    plant: Workspace, add: Callable, burns: Path, tmp_path: Path
) -> None:
    before = everything(plant)
    known = plant.data / "plates" / "gear" / "test" / "scratch" / "3.png"
    shutil.copy(known, tmp_path / "known.png")
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    (tmp_path / "empty").mkdir()
    for name, given, told in [
        ("../x", [burns], r"'\.\./x' cannot name a defect type"),
        ("good", [burns], "'good' is no defect type"),
        ("Scratch", [burns], "'Scratch' and the type 'scratch' differ in case alone — use its spelling"),
        ("burn", [tmp_path / "known.png"], r"stands in the data already, as plates/gear/test/scratch/3\.png"),
        ("burn", [burns, tmp_path / "text.png"], r"text\.png: a text file named \.png"),
        ("burn", [burns, tmp_path / "small.png"], r"small\.png: 20×20 pixels, not 64 to 8192"),
        ("burn", [tmp_path / "empty"], "no image in this folder"),
        ("burn", [tmp_path / "gone.png"], "no such file or folder"),
        ("burn", [known], "lies inside"),
        ("burn", ["s3://AKIA:secret@bucket/x"], "the s3:// address holds credentials"),
    ]:
        with pytest.raises(FlawlineError, match=told):
            add(name, *given)
    with pytest.raises(FlawlineError, match="no category 'nut' in other, plates — there are: plates/gear"):
        add("burn", burns, category="nut")
    with pytest.raises(FlawlineError, match="no category"):
        add("burn", burns, category="../gear")
    with pytest.raises(FlawlineError, match="no category 'gear' in other"):
        add("burn", burns, category="other/gear")
    with pytest.raises(FlawlineError, match="--words are empty"):
        add("burn", burns, words=" ")
    assert everything(plant) == before


def test_a_category_of_two_data_sets_has_to_be_chosen(plant: Workspace, add: Callable, burns: Path) -> None:
    shutil.copytree(
        plant.data / "plates" / "gear" / "test" / "good", plant.data / "other" / "gear" / "test" / "good"
    )
    with pytest.raises(
        FlawlineError, match="other and plates have a category 'gear' — choose one with --dataset"
    ):
        add("burn", burns)
    assert add("burn", burns, dataset="plates").place.dataset == "plates"


@pytest.mark.parametrize(
    "fault",
    [
        FlawlineError("dvc add data failed: the disk", "x"),
        KeyboardInterrupt(),
        OSError(28, "No space left on device"),
    ],
)
def test_a_failure_takes_everything_back(
    plant: Workspace, add: Callable, burns: Path, fault: BaseException
) -> None:
    versioned(plant)
    before = everything(plant)

    def fails(workspace: Workspace) -> bool:
        assert everything(workspace) != before
        (workspace.root / "data.dvc").write_text("half")
        raise fault

    with pytest.raises(FlawlineError if isinstance(fault, Exception) else KeyboardInterrupt):
        add("burn", burns, words="charred spot", version=fails)
    assert everything(plant) == before
    assert add("burn", burns).images == 6


def test_data_that_fails_its_checks_is_taken_back(
    plant: Workspace, add: Callable, burns: Path, real_checks: None
) -> None:
    """A type with masks may not be half masked: the line would stop there."""
    folder = plant.data / "plates" / "gear"
    for path in (folder / "test" / "scratch").iterdir():
        mask = Image.new("L", (spots.SIDE, spots.SIDE))
        mask.paste(255, (10, 10, 20, 20))
        (folder / "ground_truth" / "scratch").mkdir(parents=True, exist_ok=True)
        mask.save(folder / "ground_truth" / "scratch" / f"{path.stem}_mask.png")
    before = everything(plant)
    told = r"fails its checks: .*test/scratch/0-2\.png: has no mask .*\(and 5 more\) — .*nothing was added"
    with pytest.raises(FlawlineError, match=told):
        add("scratch", burns)
    assert everything(plant) == before


SCRIPT = """
import os, sys
sys.path[:0] = [{here!r}]
from pathlib import Path
import spots
from flawline.watch import intake
from flawline.workspace import Workspace
plant = Workspace(Path(sys.argv[1]))
intake._validate = lambda *_: None
def dies(workspace):
    (workspace.root / "data.dvc").write_text("half")
    print("now", flush=True)
    sys.stdin.readline()
intake.add_defect(plant, spots.settings_of(plant), "burn", [sys.argv[2]], "gear", words="charred", version=dies)
"""


def test_what_a_kill_9_left_is_taken_back_by_the_next_one(
    plant: Workspace, add: Callable, burns: Path
) -> None:
    versioned(plant)
    before = everything(plant)
    code = SCRIPT.format(here=str(Path(spots.__file__).parent))
    run = [sys.executable, "-c", code, str(plant.root), str(burns)]
    child = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "now\n"
    with pytest.raises(FlawlineError, match="a defect type is being added"):
        add("drop", burns)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert everything(plant) != before
    with pytest.raises(FlawlineError, match="is no defect type"):
        add("good", burns)  # whoever comes next, whatever becomes of it
    assert everything(plant) == before
    done = add("burn", burns, words="charred")
    assert done.images == 6 and not done.undone
    assert json.loads((plant.data / "plates" / "dataset.json").read_text())["added"] == ["burn"]


def test_dvc_versions_it(plant: Workspace, settings: Settings, burns: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import small_line

    small_line.init_dvc(plant.root)
    add_defect(plant, settings, "burn", [burns], "gear")
    first = (plant.root / "data.dvc").read_text()
    spots.save(burns / "9.png", "burn 9", "burn")
    add_defect(plant, settings, "burn", [burns], "gear")
    assert (plant.root / "data.dvc").read_text() != first
