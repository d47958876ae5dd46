from pathlib import Path

import pytest

from flawline.data.vocabulary import added_types, folder_words, load_vocabulary, set_defect_words
from flawline.errors import FlawlineError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vocabulary.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_and_overrides(tmp_path: Path) -> None:
    words = load_vocabulary(
        written(
            tmp_path,
            "objects: {pcb: printed circuit board}\ndefects: {print: faulty print}\n"
            "datasets:\n  nuts:\n    objects: {pcb: board}\n    defects: {print: imprint}\n",
        )
    )
    assert words.object_words("x", "pcb") == "printed circuit board"
    assert words.object_words("nuts", "pcb") == "board"
    assert words.defect_words("x", "print") == "faulty print"
    assert words.defect_words("nuts", "print") == "imprint"
    assert words.object_words("x", "metal_nut-2") == "metal nut 2"
    assert words.defect_words("nuts", "missing_part") == "missing part"


def test_knows(tmp_path: Path) -> None:
    words = load_vocabulary(
        written(tmp_path, "defects: {rust: rust}\ndatasets: {nuts: {defects: {flip: flipped}}}")
    )
    assert words.knows("x", "rust") and words.knows("x", "good") and words.knows("nuts", "flip")
    assert not words.knows("x", "flip") and not words.knows("nuts", "scratch")


def test_folder_words() -> None:
    assert folder_words("solder_bridge") == "solder bridge"
    assert folder_words("__") == "__"  # never nothing


def test_empty_file_is_an_empty_vocabulary(tmp_path: Path) -> None:
    assert not load_vocabulary(written(tmp_path, "")).knows("x", "scratch")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("objects: [a", "not valid YAML"),
        ("defects: {rust: rust, rust: corrosion}", "not valid YAML"),
        ("object: {a: b}", "object: Extra inputs are not permitted"),
        ("defects: {rust: 3}", "defects.rust: Input should be a valid string"),
        ("defects: {rust: ''}", "defects.rust"),
        ("datasets: {a: {defect: {}}}", "datasets.a.defect: Extra"),
        ("- a list", "valid dictionary"),
    ],
)
def test_unreadable_vocabulary(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FlawlineError) as error:
        load_vocabulary(written(tmp_path, text))
    assert told in str(error.value) and "vocabulary.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_binary_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=r"vocabulary\.yaml is missing"):
        load_vocabulary(tmp_path / "vocabulary.yaml")
    (tmp_path / "vocabulary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FlawlineError, match=r"vocabulary\.yaml"):
        load_vocabulary(tmp_path / "vocabulary.yaml")


def test_the_shipped_vocabulary(repository: Path) -> None:
    words = load_vocabulary(repository / "vocabulary.yaml")
    assert words.knows("x", "manipulated_front") and words.knows("x", "solder_bridge")
    assert words.object_words("x", "pcb4") == "printed circuit board"


def test_words_of_a_type_are_put_in_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.yaml"
    path.write_text(
        "# mine\ndefects:\n  burn: burn mark  # hot\ndatasets:\n  boards: {objects: {pcb: board}}\n"
    )
    assert not set_defect_words(path, "boards", "burn", "burn mark"), "it says so already"
    assert set_defect_words(path, "boards", "burn", "charred: spot")
    assert set_defect_words(path, "fabrics", "no", "yes")
    read = load_vocabulary(path)
    assert (
        read.defect_words("boards", "burn") == "charred: spot"
        and read.defect_words("x", "burn") == "burn mark"
    )
    assert read.defect_words("fabrics", "no") == "yes" and read.object_words("boards", "pcb") == "board"
    assert path.read_text().startswith("# mine\n") and "# hot" in path.read_text()
    before = path.read_bytes()
    with pytest.raises(FlawlineError, match="cannot be words of a type"):
        set_defect_words(path, "boards", "burn", "x" * 81)
    assert path.read_bytes() == before
    path.write_text("")
    assert set_defect_words(path, "boards", "burn", "burn")
    assert load_vocabulary(path).knows("boards", "burn")


def test_added_types_are_read_from_the_data_sets(tmp_path: Path) -> None:
    for name, text in (("a", '{"added": ["x", "b"]}'), ("b", "{}"), ("c", '{"added": ["z"]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(text)
    (tmp_path / "d").mkdir()
    assert added_types(tmp_path, ["d", "c", "a", "b"]) == [("a", "b"), ("a", "x"), ("c", "z")]
