"""What a method's options are, in words: read from the classes that validate them, so that the docs cannot lie."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from flawline.prompts import method_class, method_names
from flawline.prompts.shared.base import MethodOptions

_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
}
SHARED = "every method"
#: what these mean wherever a method does not say it otherwise
_USUAL = {
    "epochs": "passes over the anomalous training images.",
    "batch": "images a step, half of them anomalous.",
    "learning_rate": "of the optimiser at the start.",
    "final_rate": "learning rate at the end of the cosine.",
}


@dataclass(frozen=True)
class Option:
    """One option: its key, what is allowed, its default as YAML would show it (`required` if none), its meaning."""

    key: str
    allowed: str
    default: str
    meaning: str


def options_of(name: str) -> list[Option]:
    """All options of a method, those that all methods share first."""
    options = method_class(name).Options
    meanings = dict(_USUAL)
    for cls in reversed(options.__mro__):
        if issubclass(cls, MethodOptions):
            meanings |= _meanings(cls)
    schema = options.model_json_schema()
    described = []
    for key, field in options.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        described.append(Option(key, _allowed(schema["properties"][key]), default, meanings.get(key, "")))
    return described


def own_options(name: str) -> list[Option]:
    """The options of a method that are not those of every method, and those whose default differs."""
    shared = {option.key: option for option in shared_options()}
    return [option for option in options_of(name) if shared.get(option.key) != option]


def shared_options() -> list[Option]:
    """The options that every method has; `words` has no others."""
    return options_of("words")


def markdown() -> str:
    """docs/options.md: a table of the shared options, and one a method."""
    parts = [
        "# Options of the methods",
        "Below `methods:` of params.yaml, one entry a method. This page is written by `flawline methods --markdown`\n"
        "from the classes that check the options; a test holds it to them. What a method is, and where it comes\n"
        "from: [methods.md](methods.md). Every option whose name ends in `_path` names an entry of `features.paths`.",
        f"## {SHARED.capitalize()}",
        _table(shared_options()),
    ]
    for name in method_names():
        found = own_options(name)
        if found:
            parts += [f"## {name}", f"Fidelity: {method_class(name).fidelity}.", _table(found)]
    return "\n\n".join(parts) + "\n"


def _table(options: list[Option]) -> str:
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for o in options:
        cells = (f"`{o.key}`", f"`{o.default}`", o.allowed, o.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _meanings(cls: type[MethodOptions]) -> dict[str, str]:
    """Key → text of the `Attributes:` section of a class; `a, b: text` counts for both."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:")
    text = " ".join(section.split())
    names = "|".join(sorted(map(re.escape, cls.model_fields), key=len, reverse=True))
    found: dict[str, str] = {}
    pieces = re.split(rf"(?:^|(?<=[.;] ))((?:{names})(?:, (?:{names}))*): ", text)
    for keys, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
        for key in keys.split(", "):
            found[key] = meaning.strip()
    return found


def _allowed(schema: dict[str, Any]) -> str:
    """A JSON schema in few words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_allowed(part) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    kind = {"integer": "int", "number": "float", "string": "text", "boolean": "`true`, `false`"}.get(
        schema.get("type", ""), schema.get("type", "anything")
    )
    if kind == "array":
        kind = f"list of {_allowed(schema.get('items', {}))}"
    if kind == "object":
        kind = "mapping"
    return " ".join([kind, ", ".join(limits)]).strip()


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
