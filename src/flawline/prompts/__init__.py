"""Prompt methods, one file each. A new method is its file, its test and its entry in params.yaml."""

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flawline.errors import FlawlineError
from flawline.settings import Settings, describe

if TYPE_CHECKING:
    from flawline.prompts.shared.base import MethodOptions, PromptMethod


def method_names() -> list[str]:
    """All methods: the modules of this package, sorted; what they share is a package of its own."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg)


def method_class(name: str) -> "type[PromptMethod]":
    """The class of a method.

    Raises:
        FlawlineError: there is no such method.
    """
    names = method_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
        raise FlawlineError(f"params.yaml: methods.{name} is no method", hint)
    found: type[PromptMethod] = importlib.import_module(f"{__name__}.{name}").Method
    return found


def method_options(name: str, raw: dict[str, Any]) -> "MethodOptions":
    """Validate a method's section of params.yaml.

    Raises:
        FlawlineError: a wrong type, an unknown key or an impossible value; the message names the key.
    """
    try:
        return method_class(name).Options.model_validate(raw)
    except ValidationError as error:
        raise FlawlineError(
            f"params.yaml: methods.{name}.{describe(error)}", "fix the key; docs/params.md lists them all"
        ) from error


def validate_methods(settings: Settings) -> None:
    """Check every described method's options, that its image paths exist, and the same of every variant.

    Raises:
        FlawlineError: the first fault found.
    """
    from flawline.variants import VariantId, changed

    for name in sorted(settings.methods):
        _validate(settings, name)
    for name, variants in sorted(settings.ablations.items()):
        for variant in sorted(variants):
            try:
                _validate(changed(settings, VariantId(name, variant)), name)
            except FlawlineError as error:
                where = f"ablations.{name}.{variant}"
                if where in error.problem:
                    raise
                raise FlawlineError(
                    f"params.yaml: {where}: {error.problem.removeprefix('params.yaml: ')}", error.remedy
                ) from error


def _validate(settings: Settings, name: str) -> None:
    """One method's options, and that its image paths (options named …_path) exist."""
    options = method_options(name, settings.methods[name])
    for key in (key for key in sorted(type(options).model_fields) if key.endswith("_path")):
        given = getattr(options, key) or []
        for path in [given] if isinstance(given, str) else given:
            if path not in settings.features.paths:
                known = ", ".join(sorted(settings.features.paths))
                raise FlawlineError(
                    f"params.yaml: methods.{name}.{key}: no '{path}' in features.paths",
                    f"choose from {known}",
                )
