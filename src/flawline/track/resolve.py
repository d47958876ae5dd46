"""From a reference (alias, version, folder) to a prompt set on disk, verified before use.

The last champion that was found sound stays on disk, below .state/prompts/. Should the present one be damaged in the
registry, or the registry be away, the last good one goes on serving and the caller is told.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import atomic_folder, read_json, sha256_folder, write_json
from flawline.settings import Settings
from flawline.track import registry
from flawline.workspace import Workspace

Warn = Callable[[str], None]
_SHA256 = re.compile(r"[0-9a-f]{64}")


def resolve(workspace: Workspace, settings: Settings, ref: str, warn: Warn | None = None) -> Path:
    """The folder of a prompt set.

    A folder is taken as it is. A version is downloaded once, below .state/prompts/<sha256>/.

    Args:
        workspace: where the registry is.
        settings: names the model.
        ref: an alias, a version number, or a folder with card.json.
        warn: is told in a line where the last good champion stands in for the present one; None: nothing stands in.

    Raises:
        FlawlineError: there is no such thing, or its bytes are not those that were registered (and, for the champion,
            none was ever found sound here).
    """
    folder = Path(ref)
    if (folder / "card.json").is_file():
        return folder
    if folder.is_dir():
        raise FlawlineError(f"{ref} is a folder without card.json, so no prompt set", "name another folder")
    if ref != registry.CHAMPION or warn is None:
        return _registered(workspace, settings, ref)
    try:
        return _registered(workspace, settings, ref)
    except FlawlineError as error:
        last = last_good(workspace, settings)
        if last is None:
            raise
        version, held = last
        warn(f"the last good champion, version {version}, goes on serving: {error.problem}")
        return held


def keep(workspace: Workspace, settings: Settings, version: "registry.Version") -> None:
    """Remember a champion whose local copy was just verified as the last good one."""
    held = {"model": settings.track.model, "version": version.version, "sha256": version.sha256}
    if _noted(workspace) != held:
        write_json(_last(workspace), held)


def last_good(workspace: Workspace, settings: Settings) -> tuple[str, Path] | None:
    """Version and folder of the last champion that was found sound here, verified again; None for none."""
    held = _noted(workspace)
    if not isinstance(held, dict) or held.get("model") != settings.track.model:
        return None
    sha256, version = str(held.get("sha256")), str(held.get("version"))
    folder = workspace.state / "prompts" / sha256
    sound = _SHA256.fullmatch(sha256) and folder.is_dir() and sha256_folder(folder) == sha256
    return (version, folder) if sound else None


def local_folder(workspace: Workspace, settings: Settings, version: "registry.Version") -> Path:
    """The prompt set of a version on disk, downloaded if it is not there or was damaged there."""
    if not _SHA256.fullmatch(version.sha256):
        raise FlawlineError(f"version {version.version} carries no valid sha256 tag", "register it again")
    target = workspace.state / "prompts" / version.sha256
    if target.is_dir():
        if sha256_folder(target) == version.sha256:
            return target
        shutil.rmtree(target)
    _download(workspace, settings, version, target)
    return target


def _registered(workspace: Workspace, settings: Settings, ref: str) -> Path:
    known = registry.versions(workspace, settings)
    if not known and ref in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
        raise FlawlineError("no prompt set is registered yet", "run flawline retrain")
    for version in known:
        if ref == version.version or ref in version.aliases:
            folder = local_folder(workspace, settings, version)
            if registry.CHAMPION in version.aliases:
                keep(workspace, settings, version)
            return folder
    aliases = sorted(alias for version in known for alias in version.aliases)
    there = ", ".join([*aliases, *(v.version for v in known)]) or "nothing"
    raise FlawlineError(f"'{ref}' is neither an alias, nor a version, nor a folder", f"registered: {there}")


def _noted(workspace: Workspace) -> Any:
    try:
        return read_json(_last(workspace))
    except FlawlineError:  # there is none, or it is damaged: nothing depends on it
        return None


def _last(workspace: Workspace) -> Path:
    return workspace.state / "prompts" / "last_good.json"


def _download(workspace: Workspace, settings: Settings, version: "registry.Version", target: Path) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from flawline.track.store import open_store

    open_store(workspace, settings)
    uri = f"models:/{settings.track.model}/{version.version}/artifacts/prompt_set"
    with tempfile.TemporaryDirectory() as temporary:
        try:
            source = Path(download_artifacts(artifact_uri=uri, dst_path=temporary))
        except (MlflowException, OSError) as error:
            raise FlawlineError(
                f"version {version.version} cannot be fetched: {' '.join(str(error).split())[:200]}",
                "its files are gone from the store; retrain, or roll back",
            ) from error
        if sha256_folder(source) != version.sha256:
            raise FlawlineError(
                f"version {version.version} is damaged: its files are not those that were registered",
                "do not use it; flawline rollback, or retrain with --force",
            )
        with atomic_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
