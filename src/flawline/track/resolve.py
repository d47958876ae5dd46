"""From a reference (alias, version, folder) to a prompt set on disk, verified before use."""

import re
import shutil
import tempfile
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.files import atomic_folder, sha256_folder
from flawline.settings import Settings
from flawline.track import registry
from flawline.workspace import Workspace


def resolve(workspace: Workspace, settings: Settings, ref: str) -> Path:
    """The folder of a prompt set.

    A folder is taken as it is. A version is downloaded once, below .state/prompts/<sha256>/.

    Args:
        workspace: where the registry is.
        settings: names the model.
        ref: an alias, a version number, or a folder with card.json.

    Raises:
        FlawlineError: there is no such thing, or its bytes are not those that were registered.
    """
    folder = Path(ref)
    if (folder / "card.json").is_file():
        return folder
    if folder.is_dir():
        raise FlawlineError(f"{ref} is a folder without card.json, so no prompt set", "name another folder")
    known = registry.versions(workspace, settings)
    if not known and ref in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
        raise FlawlineError("no prompt set is registered yet", "run flawline retrain")
    for version in known:
        if ref == version.version or ref in version.aliases:
            return local_folder(workspace, settings, version)
    aliases = sorted(alias for version in known for alias in version.aliases)
    there = ", ".join([*aliases, *(v.version for v in known)]) or "nothing"
    raise FlawlineError(f"'{ref}' is neither an alias, nor a version, nor a folder", f"registered: {there}")


def local_folder(workspace: Workspace, settings: Settings, version: registry.Version) -> Path:
    """The prompt set of a version on disk, downloaded if it is not there or was damaged there."""
    if not re.fullmatch(r"[0-9a-f]{64}", version.sha256):
        raise FlawlineError(f"version {version.version} carries no valid sha256 tag", "register it again")
    target = workspace.state / "prompts" / version.sha256
    if target.is_dir():
        if sha256_folder(target) == version.sha256:
            return target
        shutil.rmtree(target)
    _download(workspace, settings, version, target)
    return target


def _download(workspace: Workspace, settings: Settings, version: registry.Version, target: Path) -> None:
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
