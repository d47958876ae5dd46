"""`flawline score`: what is found, what is told, what is written; with a detector whose answers are known."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawline.cli import scoring
from flawline.cli.app import run
from flawline.errors import FlawlineError
from flawline.workspace import Workspace


@dataclass
class Answer:
    score: float
    threshold: float
    is_anomalous: bool
    defect: str
    map: np.ndarray
    types: dict[str, float] = field(default_factory=dict)
    named_by: dict[str, str] = field(default_factory=dict)


class Brightness:
    """Scores by the mean of the red channel; notes how many images it saw at a time."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.asked: dict[str, Any] = {}
        self.method = SimpleNamespace(name="brightness", knows_types=False)
        self.expected = 0

    def speed_up(self, expected: int) -> None:
        self.expected = expected

    def score(self, images: list[Image.Image], **asked: Any) -> list[Answer]:
        self.batches.append(len(images))
        self.asked = asked
        return [self._answer(np.asarray(image, dtype=np.float32)) for image in images]

    def _answer(self, pixels: np.ndarray) -> Answer:
        score = float(pixels[..., 0].mean() / 255)
        anomalous = score > 0.5
        return Answer(score, 0.5, anomalous, "bright" if anomalous else "good", pixels[::4, ::4, 0] / 255)


@pytest.fixture
def detector(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Brightness:
    """The command line with this detector in the place of any prompt set called `champion`."""
    from flawline import detector as module
    from flawline.track import registry

    made = Brightness()
    opened = workspace.root / "prompt set"

    def resolve(place: Workspace, settings: Any, ref: str, warn: Any) -> Path:
        assert place == workspace
        if ref != "champion":
            raise FlawlineError(f"'{ref}' is neither an alias, nor a version, nor a folder")
        return opened

    def open_(folder: Path, root: Path) -> Brightness:
        assert (folder, root) == (opened, workspace.root)
        return made

    monkeypatch.setattr(registry, "resolve", resolve)
    monkeypatch.setattr(module.Detector, "open", staticmethod(open_))
    monkeypatch.setenv("FLAWLINE_WORKSPACE", str(workspace.root))
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str, int], Path]:
    def make(name: str, red: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (red, 0, 0)).save(path)
        return path

    return make


def test_a_folder_is_searched_recursively_and_sorted(
    detector: Brightness, picture: Callable, tmp_path: Path, capsys: Any
) -> None:
    for name in ("in/b.png", "in/a b.jpg", "in/sub/ü.png", "in/.hidden.png"):
        picture(name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run(["score", str(tmp_path / "in"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["image"]).name for row in rows] == ["a b.jpg", "b.png", "ü.png"]


def test_json_is_all_that_standard_output_gets(detector: Brightness, picture: Callable, capsys: Any) -> None:
    path = picture("x.png", 255)
    assert run(["score", str(path), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row == {
        "image": str(path),
        "score": 1.0,
        "threshold": 0.5,
        "is_anomalous": True,
        "defect": "bright",
        "overlay": None,
        "types": {},
        "named_by": {},
    }


def test_a_table_for_people(detector: Brightness, picture: Callable, capsys: Any) -> None:
    path = picture("[x].png", 255)
    assert run(["score", str(path)]) == 0
    out = capsys.readouterr().out
    assert "[x].png" in out and "1.0000" in out and "bright" in out


def test_overlays_and_scores_are_written(
    detector: Brightness, picture: Callable, tmp_path: Path, capsys: Any
) -> None:
    picture("in/a.png", 200)
    picture("in/sub/a.png")
    out = tmp_path / "out put"
    assert run(["score", str(tmp_path / "in"), "--out", str(out)]) == 0
    with (out / "scores.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["is_anomalous"], row["defect"]) for row in rows] == [("true", "bright"), ("false", "good")]
    assert [row["overlay"] for row in rows] == ["overlays/a.png.png", "overlays/sub/a.png.png"]
    for row in rows:
        assert Image.open(out / row["overlay"]).size == (68, 24)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run(["score", str(tmp_path / "in"), "--out", str(out)]) == 0
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_equal_names_of_two_folders_stay_apart(
    detector: Brightness, picture: Callable, tmp_path: Path
) -> None:
    one, two = picture("one/x.png"), picture("two/x.png", 255)
    assert run(["score", str(one), str(two), str(one), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        "x.png-2.png",
        "x.png.png",
    ]
    assert sum(detector.batches) == 2


def test_bad_images_are_named_and_the_others_scored(
    detector: Brightness, picture: Callable, tmp_path: Path, workspace: Workspace, capsys: Any
) -> None:
    workspace.params.write_text(
        workspace.params.read_text(encoding="utf-8").replace("max_pixels: 50000000", "max_pixels: 1024"),
        "utf-8",
    )
    good = picture("in/good.png", 255)
    (tmp_path / "in" / "text.png").write_text("I am no picture")
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    (tmp_path / "in" / "cut.png").write_bytes(good.read_bytes()[:60])
    Image.new("RGB", (64, 64)).save(tmp_path / "in" / "huge.png")
    assert run(["score", str(tmp_path / "in"), str(tmp_path / "nowhere"), "--json"]) == 2
    captured = capsys.readouterr()
    assert [row["image"] for row in json.loads(captured.out)] == [str(good)]
    errors = captured.err.splitlines()
    assert len(errors) == 5 and all(line.startswith("error: ") for line in errors)
    for name, why in (
        ("text.png", "text file"),
        ("empty.jpg", "zero bytes"),
        ("cut.png", ""),
        ("huge.png", "too large"),
        ("nowhere", "no such file"),
    ):
        [line] = [line for line in errors if name in line]
        assert why in line


def test_no_image_at_all_is_an_error_before_any_model_is_opened(
    detector: Brightness, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "in").mkdir()
    assert run(["score", str(tmp_path / "in"), "--prompts", "nonsense"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no image in this folder" in line
    assert detector.batches == []


def test_an_unknown_prompt_set_is_named(detector: Brightness, picture: Callable, capsys: Any) -> None:
    assert run(["score", str(picture("x.png")), "--prompts", "nonsense"]) == 2
    assert "'nonsense'" in capsys.readouterr().err


def test_memory_is_bounded_by_the_batch(picture: Callable) -> None:
    images, _ = scoring.find_images(
        [picture(f"in/{number:02d}.png", number).parent for number in range(7)][:1]
    )
    detector, problems = Brightness(), []
    rows = list(scoring.score_images(detector, images, 3, 10_000, None, problems))  # type: ignore[arg-type]
    assert detector.batches == [3, 3, 1] and problems == []
    assert [row.score for row in rows] == sorted(row.score for row in rows)


def test_defect_words_and_category_reach_the_detector(detector: Brightness, picture: Callable) -> None:
    file = picture("a.png", 200)
    assert run(["score", str(file)]) == 0
    assert detector.asked == {"category": "", "defects": None}
    detector.method.knows_types = True
    assert run(["score", str(file), "--defects", "scratch, loose thread,", "--category", "gear"]) == 0
    assert detector.asked == {"category": "gear", "defects": ["scratch", "loose thread"]}


def test_defect_words_for_a_method_without_types_are_refused(
    detector: Brightness, picture: Callable, capsys: Any
) -> None:
    assert run(["score", str(picture("a.png", 200)), "--defects", "scratch"]) == 2
    assert "brightness knows no defect types" in capsys.readouterr().err
    assert detector.batches == []


def test_added_types_are_asked_beside_the_known_ones(
    detector: Brightness, picture: Callable, workspace: Workspace, capsys: Any
) -> None:
    """What `flawline defect add` brought is named by its words until a retraining has it."""
    path = str(picture("x.png", 255))
    assert run(["score", path, "--more-defects", "dent"]) == 2
    assert "--more-defects: brightness knows no defect types" in capsys.readouterr().err
    (workspace.data / "boards").mkdir(parents=True)
    (workspace.data / "boards" / "dataset.json").write_text('{"added": ["burn_mark", "scorch"]}')
    workspace.vocabulary.write_text("datasets: {boards: {defects: {scorch: charred spot}}}")
    assert run(["score", path]) == 0
    assert "more" not in detector.asked, "a method without types is asked for none"
    detector.method.knows_types = True
    assert run(["score", path, "--more-defects", "dent, "]) == 0
    assert detector.asked["more"] == ["dent", "burn mark", "charred spot"]
    assert run(["score", path, "--defects", "rust"]) == 0
    assert detector.asked["defects"] == ["rust"] and "more" not in detector.asked


def test_types_that_no_training_saw_are_told(
    detector: Brightness, picture: Callable, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    told = {"scratch": "trained", "dent": "words only"}
    whole = detector._answer

    def typed(pixels: np.ndarray) -> Answer:
        one = whole(pixels)
        return Answer(one.score, one.threshold, one.is_anomalous, "dent", one.map, {"dent": 1.0}, told)

    monkeypatch.setattr(detector, "_answer", typed)
    assert run(["score", str(picture("x.png", 255))]) == 0
    assert "named by their words alone, no training has seen them: dent" in capsys.readouterr().out


def test_tiles_and_speed_are_asked_for(detector: Brightness, picture: Callable, tmp_path: Path) -> None:
    for number in range(3):
        picture(f"in/{number}.png", 200)
    assert run(["score", str(tmp_path / "in")]) == 0
    assert detector.expected == 0 and "tiles" not in detector.asked
    assert run(["score", str(tmp_path / "in"), "--fast", "--tiles", "3"]) == 0
    assert detector.expected == 30 and detector.asked["tiles"] == 3


@pytest.mark.parametrize("given", ["0", "9", "two"])
def test_impossible_tiles_are_refused(detector: Brightness, picture: Callable, given: str) -> None:
    assert run(["score", str(picture("a.png", 200)), "--tiles", given]) == 2
    assert detector.batches == []


def test_an_overlay_that_cannot_be_written_is_told(
    detector: Brightness, picture: Callable, tmp_path: Path, capsys: Any
) -> None:
    """It is drawn in a thread: its failure must come out all the same."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlays").write_text("in the way")
    assert run(["score", str(picture("a.png", 200)), "--out", str(out)]) != 0
    assert "overlays" in capsys.readouterr().err
