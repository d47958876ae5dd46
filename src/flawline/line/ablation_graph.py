"""The DVC project of an ablation: the main line's stages, once a variant, in a project of their own.

A method's ablation lives in out/ablations/METHOD/, a DVC project inside the workspace: its own dvc.yaml, dvc.lock and
.dvc/, but the workspace's cache. DVC does not look into a project inside a project. So it decides what has to run,
as for the main line, while the main line's pipeline, lock and outputs stay what they are, and as quick to read.

Its stages are those of the main line's dvc.yaml that make what a variant has of its own: dependencies and parameters as
they stand there, outputs below the variant's folder, and `--variant METHOD@VARIANT` behind the command. The links in
the project's folder `main` lead into the workspace: of what lies outside a project DVC would also hash what .dvcignore
names, and of what lies in a link to the whole workspace, a DVC project itself, nothing.
"""

import io
import os
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import write_text
from flawline.settings import Settings
from flawline.variants import DEFAULT, VariantId, entered, variants_of
from flawline.workspace import VariantWorkspace, Workspace

MAIN = "main"
_METHOD = "${item.method}"


def make_project(workspace: Workspace, settings: Settings, method: str, seeds: list[int]) -> Workspace:
    """Make, or bring up to date, the DVC project of a method's ablation.

    Args:
        workspace: whose dvc.yaml is read.
        settings: its params.yaml.
        method: a key of `ablations`.
        seeds: of the tuning.

    Returns:
        The project, for `flawline.line.pipeline`, which asks and runs DVC there.

    Raises:
        FlawlineError: there are no variants of the method, dvc.yaml is not as expected, or no DVC repository.
    """
    stages = ablation_stages(workspace, settings, method, seeds)
    project = Workspace(workspace.ablation(method))
    _initialise(workspace, project)
    _link(workspace, project, stages)
    text = (
        f"# Written by `flawline ablate {method}` from the main line's dvc.yaml and `ablations:` of params.yaml.\n"
        + _dumped({"stages": stages})
    )
    write_text(project.root / "dvc.yaml", text)
    return project


def ablation_stages(
    workspace: Workspace, settings: Settings, method: str, seeds: list[int]
) -> dict[str, dict[str, Any]]:
    """The stages of all variants of a method as dvc.yaml has them; see `make_project`."""
    main = _main_stages(workspace)
    found: dict[str, dict[str, Any]] = {}
    for name in variants_of(settings, method):
        place, _ = entered(workspace, settings, VariantId(method, name))
        for stage, definition in main.items():
            if any(place.moved(workspace.root / out) != workspace.root / out for out in _outs(definition)):
                found[f"{stage}-{name}"] = _taken_over(definition, place, settings, seeds)
    return found


def variant_of(stage: str) -> str:
    """The variant that a stage such as `tune-no_mpts@castings-0` makes."""
    return stage.split("@")[0].rsplit("-", 1)[-1]


def main_stage_of(stage: str) -> str:
    """The stage of the main line, without its cell, that such a stage was taken from."""
    return stage.split("@")[0].rsplit("-", 1)[0]


def _main_stages(workspace: Workspace) -> dict[str, dict[str, Any]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = workspace.root / "dvc.yaml"
    try:
        return dict(YAML(typ="safe", pure=True).load(path)["stages"])
    except (OSError, YAMLError, KeyError, TypeError, ValueError) as error:
        raise FlawlineError(f"{path} has no stages to take over", "restore it from git") from error


def _outs(definition: dict[str, Any]) -> list[str]:
    """Output paths, with templates in them; options such as `cache: false` left out."""
    return [out if isinstance(out, str) else next(iter(out)) for out in definition.get("outs", [])]


def _taken_over(
    definition: dict[str, Any], place: VariantWorkspace, settings: Settings, seeds: list[int]
) -> dict[str, Any]:
    """A stage of the main line as the variant of `place` runs it from the project's folder."""
    method, variant = place.method, place.variant
    project = place.ablation(method)

    def here(path: str) -> str:
        before = place.root / path.replace(_METHOD, method)
        after = place.moved(before)
        moved = after != before
        return (
            after.relative_to(project).as_posix()
            if moved
            else f"{MAIN}/{before.relative_to(place.root).as_posix()}"
        )

    cells: dict[str, list[Any]] = {"train": settings.data.train, "test": settings.data.test, "seed": seeds}
    matrix = [key for key in definition.get("matrix", {}) if key != "method"]
    unknown = [key for key in matrix if key not in cells]
    if unknown:
        raise FlawlineError(
            f"dvc.yaml: a stage goes through '{unknown[0]}', which ablations do not know",
            "let it go through train, test and seed",
        )
    up = Path(os.path.relpath(place.root, project)).as_posix()  # commands run where the main line's do
    params = [str(key).replace(_METHOD, method) for key in definition.get("params", [])]
    if variant != DEFAULT:
        params.append(f"ablations.{method}.{variant}.change")
    return {
        "matrix": {key: list(cells[key]) for key in matrix},
        "cmd": f"cd {up} && {definition['cmd'].replace(_METHOD, method)} --variant {VariantId(method, variant)}",
        "deps": [here(path) for path in definition.get("deps", [])],
        "params": [{f"{MAIN}/{place.params.name}": params}],
        "outs": [here(path) for path in _outs(definition)],
    }


def _link(workspace: Workspace, project: Workspace, stages: dict[str, dict[str, Any]]) -> None:
    """Let `main/NAME` lead to the workspace's NAME for everything that a stage reads there."""
    folder = project.root / MAIN
    folder.mkdir(exist_ok=True)
    read = [Path(path) for stage in stages.values() for path in (*stage["deps"], *stage["params"][0])]
    for name in sorted({path.parts[1] for path in read if path.parts[0] == MAIN}):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(workspace.root / name, folder))


def _initialise(workspace: Workspace, project: Workspace) -> None:
    """`dvc init` without git, with the workspace's cache and ignored names."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    from flawline.line.pipeline import quiet

    ignored = workspace.root / ".dvcignore"
    project.root.mkdir(parents=True, exist_ok=True)
    write_text(project.root / ".dvcignore", ignored.read_text(encoding="utf-8") if ignored.is_file() else "")
    try:
        with quiet(), Repo(str(workspace.root)) as repo:
            cache = repo.cache.local.path
    except NotDvcRepoError as error:
        raise FlawlineError(
            f"{workspace.root} is no DVC repository",
            "run `dvc init` (or `dvc init --no-scm` without git) there",
        ) from error
    with quiet():
        if not (project.root / ".dvc").is_dir():
            Repo.init(str(project.root), no_scm=True).close()
        with Repo(str(project.root)) as repo, repo.config.edit() as config:
            # Relative, because DVC writes its configuration in ASCII; it reads it relative to where this process is.
            config["cache"]["dir"] = os.path.relpath(cache)


def _dumped(value: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # leaves on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()
