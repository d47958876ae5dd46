"""The DVC pipeline of an ablation, written from dvc.yaml: the ordinary stages, once a variant, with outputs apart.

A method's ablation has a pipeline and a lock of its own, results/ablations/METHOD/dvc.yaml and dvc.lock. So DVC
decides what has to run, as for the main line, while the main line's outputs, its dvc.lock and its results stay what
they are. Every stage of the main line that makes what a variant has of its own is taken over: its dependencies and
parameters as they stand, its outputs below out/ablations/METHOD/VARIANT/, and `--variant METHOD@VARIANT` on its command.
"""

import io
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import write_text
from flawline.settings import Settings
from flawline.variants import DEFAULT, VariantId, entered, variants_of
from flawline.workspace import VariantWorkspace, Workspace

_METHOD = "${item.method}"


def write_graph(workspace: Workspace, settings: Settings, method: str, seeds: list[int]) -> Path:
    """Write results/ablations/METHOD/dvc.yaml with all variants of a method; an equal file is left alone.

    Args:
        workspace: whose dvc.yaml is read.
        settings: its params.yaml.
        method: a key of `ablations`.
        seeds: of the tuning.

    Returns:
        The pipeline file.

    Raises:
        FlawlineError: there are no variants of it, or dvc.yaml is not as expected.
    """
    main = _main_stages(workspace)
    found: dict[str, Any] = {}
    for name in variants_of(settings, method):
        place, _ = entered(workspace, settings, VariantId(method, name))
        for stage, definition in main.items():
            if any(place.moved(workspace.root / out) != workspace.root / out for out in _outs(definition)):
                found[stage_name(stage, name)] = _taken_over(definition, place, settings, seeds)
    folder = workspace.ablation(method)
    path = folder / "dvc.yaml"
    text = (
        f"# Written by `flawline ablate {method}` from dvc.yaml and the ablations of params.yaml: edit those.\n"
        + _dumped({"stages": found})
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def stage_name(stage: str, variant: str) -> str:
    """A variant's stage in the ablation's pipeline, without its cell."""
    return f"{stage}-{variant}"


def variant_of(stage: str) -> str:
    """The variant that a stage such as `results/…/dvc.yaml:tune-no_mpts@castings-0` makes."""
    return stage.rsplit(":", 1)[-1].split("@")[0].rsplit("-", 1)[-1]


def _main_stages(workspace: Workspace) -> dict[str, dict[str, Any]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = workspace.root / "dvc.yaml"
    try:
        stages: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(path)["stages"]
        return stages
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise FlawlineError(f"{path} has no stages to take over", "restore it from git") from error


def _outs(definition: dict[str, Any]) -> list[str]:
    """Output paths, with templates in them; options such as `cache: false` left out."""
    return [out if isinstance(out, str) else next(iter(out)) for out in definition.get("outs", [])]


def _taken_over(
    definition: dict[str, Any], place: VariantWorkspace, settings: Settings, seeds: list[int]
) -> dict[str, Any]:
    """A stage of the main line as the variant of `place` runs it, from the folder of the ablation."""
    method, variant = place.method, place.variant

    def here(path: str) -> str:
        moved = place.moved(place.root / path.replace(_METHOD, method))
        return moved.relative_to(place.root).as_posix()

    cells = {"train": settings.data.train, "test": settings.data.test, "seed": seeds}
    matrix = [key for key in definition.get("matrix", {}) if key != "method"]
    unknown = [key for key in matrix if key not in cells]
    if unknown:
        raise FlawlineError(
            f"dvc.yaml: a stage goes through '{unknown[0]}', which ablations do not know",
            "make it go through train, test and seed",
        )
    params = [str(key).replace(_METHOD, method) for key in definition.get("params", [])]
    if variant != DEFAULT:
        params.append(f"ablations.{method}.{variant}.change")
    return {
        "wdir": "../../..",
        "matrix": {key: list(cells[key]) for key in matrix},
        "cmd": f"{definition['cmd'].replace(_METHOD, method)} --variant {VariantId(method, variant)}",
        "deps": [here(path) for path in definition.get("deps", [])],
        "params": params,
        "outs": [here(path) for path in _outs(definition)],
    }


def _dumped(value: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # leaves on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()
