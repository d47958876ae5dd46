"""`--set key=value`: edits params.yaml in place, keeps its comments, and writes only what is valid."""

import io
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import write_text


def set_params(path: Path, assignments: Sequence[str]) -> bool:
    """Apply `key=value` assignments to params.yaml; all of them or none.

    Args:
        path: params.yaml.
        assignments: `tune.seeds=[0, 1]`: a dotted key and a YAML value.

    Returns:
        Whether the file changed.

    Raises:
        FlawlineError: not an assignment, an unknown key, or a value that the settings refuse.
    """
    from flawline.settings import load_settings, parse_settings

    load_settings(path)
    yaml = _round_trip()
    before = path.read_text(encoding="utf-8")
    document = yaml.load(before)
    for assignment in assignments:
        _assign(document, assignment)
    after = io.StringIO()
    yaml.dump(document, after)
    settings = parse_settings(_plain(after.getvalue()), f"{path} with {' '.join(assignments)}")
    if any(assignment.startswith(("methods.", "features.paths", "ablations")) for assignment in assignments):
        from flawline.prompts import validate_methods  # imports torch: not for every key

        validate_methods(settings)
    # ruamel may align a line differently; equal values must leave the file alone.
    if _plain(after.getvalue()) == _plain(before):
        return False
    write_text(path, after.getvalue())
    return True


def _assign(document: MutableMapping[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise FlawlineError(
            f"--set {assignment} is not key=value", "write for example --set tune.seeds=[0,1]"
        )
    place: Any = document
    for depth, part in enumerate(parts[:-1], 1):
        place = place.get(part) if isinstance(place, MutableMapping) else None
        if not isinstance(place, MutableMapping):
            raise FlawlineError(
                f"--set {assignment}: params.yaml has no mapping '{'.'.join(parts[:depth])}'",
                "docs/params.md lists the keys",
            )
    place[parts[-1]] = _value(assignment, text)


def _value(assignment: str, text: str) -> Any:
    """The value as YAML reads it; loaded round-trip, so that lists stay on one line."""
    from ruamel.yaml.error import YAMLError

    try:
        return _round_trip().load(text)
    except YAMLError as error:
        raise FlawlineError(
            f"--set {assignment}: the value is not YAML",
            "quote it for the shell, e.g. --set 'tune.seeds=[0, 1]'",
        ) from error


def _plain(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _round_trip() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class SpelledOut(RoundTripRepresenter):
        """ruamel writes None as nothing at all; params.yaml says null."""

    SpelledOut.add_representer(
        type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml = YAML()
    yaml.Representer = SpelledOut
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
