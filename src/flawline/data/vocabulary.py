"""vocabulary.yaml: what the folders of data sets are called in words, because CLIP reads words."""

from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flawline.errors import FlawlineError
from flawline.files import read_json, write_text
from flawline.settings import describe

Words = Annotated[str, Field(min_length=1, max_length=80, pattern=r"\S")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Names(_Strict):
    """Words of folders: `objects` for categories, `defects` for defect types."""

    objects: dict[str, Words] = Field(default_factory=dict)
    defects: dict[str, Words] = Field(default_factory=dict)


class Vocabulary(Names):
    """Words for all data sets, and `datasets` for those of one, which win."""

    datasets: dict[str, Names] = Field(default_factory=dict)

    def object_words(self, dataset: str, category: str) -> str:
        """Words for a category's object or material; its folder name as words where nothing is listed."""
        own = self.datasets.get(dataset, _NONE).objects
        return own.get(category) or self.objects.get(category) or folder_words(category)

    def defect_words(self, dataset: str, defect: str) -> str:
        """Words for a defect type; its folder name as words where nothing is listed."""
        own = self.datasets.get(dataset, _NONE).defects
        return own.get(defect) or self.defects.get(defect) or folder_words(defect)

    def knows(self, dataset: str, defect: str) -> bool:
        """Whether a defect type is listed; `good` always is."""
        return (
            defect == "good" or defect in self.defects or defect in self.datasets.get(dataset, _NONE).defects
        )


_NONE = Names()


def folder_words(name: str) -> str:
    """A folder name as words: `missing_part` → `missing part`."""
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or name


def load_vocabulary(path: Path) -> Vocabulary:
    """Read vocabulary.yaml strictly. An empty file is an empty vocabulary.

    Raises:
        FlawlineError: the file is missing, is not YAML, or holds a wrong key or value; the message names it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    remedy = "fix that line; the keys are objects, defects and datasets"
    try:
        raw = YAML(typ="safe", pure=True).load(Path(path))
    except FileNotFoundError as error:
        raise FlawlineError(
            f"{path} is missing", "restore it, or write one with the key `defects: {}`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", "save it as UTF-8 text") from error
    except YAMLError as error:
        raise FlawlineError(f"{path} is not valid YAML: {' '.join(str(error).split())}", remedy) from error
    try:
        return Vocabulary.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise FlawlineError(f"{path}: {describe(error)}", remedy) from error


def set_defect_words(path: Path, dataset: str, defect: str, words: str) -> bool:
    """Put the words of one data set's defect type into vocabulary.yaml; comments and order stay.

    Returns:
        Whether the file changed: not where it says so already.

    Raises:
        FlawlineError: the file cannot be read, or the words are none.
    """
    from ruamel.yaml import YAML

    known = load_vocabulary(path)
    if known.knows(dataset, defect) and known.defect_words(dataset, defect) == words:
        return False
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    document: Any = yaml.load(path) or {}
    sets = _mapping(document, "datasets")
    _mapping(_mapping(sets, dataset), "defects")[defect] = words
    text = StringIO()
    yaml.dump(document, text)
    try:
        Vocabulary.model_validate(YAML(typ="safe", pure=True).load(text.getvalue()))
    except ValidationError as error:
        raise FlawlineError(
            f"{words!a} cannot be words of a type: {describe(error)}", "1 to 80 letters"
        ) from error
    write_text(path, text.getvalue())
    return True


def added_types(data_root: Path, datasets: Iterable[str]) -> list[tuple[str, str]]:
    """(data set, type) of what `flawline defect add` added, as the data sets' own dataset.json tells; sorted."""
    found = []
    for dataset in sorted(set(datasets)):
        card = data_root / dataset / "dataset.json"
        told = read_json(card) if card.is_file() else {}
        listed = told.get("added", []) if isinstance(told, dict) else []
        found += [(dataset, str(defect)) for defect in listed if isinstance(defect, str)]
    return sorted(found)


def _mapping(document: Any, key: str) -> Any:
    """The mapping under a key, made where there is none or nothing in it."""
    if document.get(key) is None:
        document[key] = {}
    return document[key]
