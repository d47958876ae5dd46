"""A retraining as its MLflow run recorded it: which commit, data and lock, and the files kept with it."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import read_json, sha256_file
from flawline.line import git
from flawline.line.lock import NONE, result_id
from flawline.settings import Settings
from flawline.track import origin
from flawline.track.log import COMPLETE, KIND, RESULT
from flawline.track.store import Store, open_store
from flawline.workspace import Workspace

_DIRTY = "-dirty"
_LEAST_PREFIX = 6  # characters of a run id


@dataclass(frozen=True)
class Recorded:
    """What a retraining's run says.

    Attributes:
        run_id: of the parent run.
        commit: full hash.
        result_id: see `flawline.line.lock.result_id`.
        data: DVC's hash of data/, or `none`.
        folder: holds the run's own copies: params.yaml, the tables (*.csv), and `origin/` (absent in runs older
            than that, see `flawline.track.origin`).
    """

    run_id: str
    commit: str
    result_id: str
    data: str
    folder: Path

    @property
    def patch(self) -> Path | None:
        """What had not been committed."""
        path = self.folder / origin.FOLDER / origin.PATCH
        return path if path.is_file() else None

    @property
    def machine(self) -> dict[str, Any]:
        """Where it was made (see `flawline.track.origin.machine`); empty where it was not recorded."""
        path = self.folder / origin.FOLDER / origin.MACHINE
        return dict(read_json(path)) if path.is_file() else {}


def read_run(workspace: Workspace, settings: Settings, run: str, folder: Path) -> Recorded:
    """Fetch what a run recorded into an empty folder.

    Args:
        workspace: where the store is.
        settings: name it.
        run: id of a retraining, or of one of its prompt sets' runs; its first characters are enough.
        folder: for the run's files.

    Raises:
        FlawlineError: there is no such retraining, it was made without git, from changes that were not kept, or its
            files are not those that were logged.
    """
    store = open_store(workspace, settings)
    found = _find(store, run)
    tags, run_id = found.data.tags, found.info.run_id
    if tags.get(COMPLETE) != "true":
        raise FlawlineError(
            f"run {run_id} was logged only in part",
            "run flawline retrain where it was made, which completes it",
        )
    commit = tags.get("mlflow.source.git.commit", NONE)
    if commit == NONE:
        raise FlawlineError(f"run {run_id} was made without git", "there is no commit to check out")
    _download(store, run_id, folder)
    kept = folder / origin.FOLDER
    if (kept / origin.LEFT_OUT).is_file() or (commit.endswith(_DIRTY) and not kept.is_dir()):
        raise FlawlineError(
            f"run {run_id} was made from changes to commit {commit.removesuffix(_DIRTY)} that it did not keep",
            "commit first, then retrain: that run can be rerun",
        )
    lock = kept / "dvc.lock"
    if lock.is_file() and sha256_file(lock) != tags.get("flawline.dvc_lock"):
        raise FlawlineError(
            f"the dvc.lock kept with run {run_id} is not the one that was logged", "trust neither"
        )
    return Recorded(
        run_id, commit.removesuffix(_DIRTY), tags[RESULT], tags.get("flawline.data", NONE), folder
    )


def find_lock(workspace: Workspace, recorded: Recorded, stages: Collection[str], scratch: Path) -> Path:
    """The recorded dvc.lock: kept with the run, else (older runs) the one of that result here or in git.

    Args:
        workspace: looked through where the run kept none.
        recorded: the run.
        stages: names that dvc.yaml had.
        scratch: an empty folder.

    Raises:
        FlawlineError: it is nowhere.
    """
    kept = recorded.folder / origin.FOLDER / "dvc.lock"
    if kept.is_file():
        return kept
    place = Workspace(scratch)
    commits = git.text(workspace.root, "log", "--all", "--format=%H", "--", "dvc.lock", fails=True).split()
    for candidate in (None, recorded.commit, *commits):
        if candidate is None:
            content = workspace.lock.read_bytes() if workspace.lock.is_file() else b""
        else:
            content = git.run_git(workspace.root, "show", f"{candidate}:./dvc.lock", fails=True)
        place.lock.write_bytes(content)
        try:
            if content and result_id(place, stages) == recorded.result_id:
                return place.lock
        except FlawlineError:
            continue
    raise FlawlineError(
        f"run {recorded.run_id} kept no dvc.lock, and neither this workspace nor its git history has that of "
        f"result {recorded.result_id[:8]}",
        "rerun it where it was made",
    )


def _find(store: Store, run: str) -> Any:
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST_PREFIX},32}}", run):
        raise FlawlineError(f"{run!a} is no run id", f"give its first {_LEAST_PREFIX} or more of 0-9 a-f")
    client, condition = store.client, f"tags.`{KIND}` = 'retraining'"
    known = client.search_runs([store.experiment_id], filter_string=condition, max_results=10_000)
    parents = {item.info.run_id: item for item in known}
    found = [item for item in known if item.info.run_id.startswith(run)]
    if not found:
        condition = f"tags.`{KIND}` = 'prompt_set'"
        cells = client.search_runs([store.experiment_id], filter_string=condition, max_results=50_000)
        above = {c.data.tags.get("mlflow.parentRunId") for c in cells if c.info.run_id.startswith(run)}
        found = [parents[name] for name in sorted(filter(None, above)) if name in parents]
    if len(found) == 1:
        return found[0]
    if found:
        raise FlawlineError(f"{len(found)} retrainings begin with {run}", "give more characters of the id")
    last = ", ".join(item.info.run_id for item in known[:3]) or "none"
    raise FlawlineError(f"no retraining {run} in {store.uri}", f"the last ones: {last}")


def _download(store: Store, run_id: str, folder: Path) -> None:
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        for item in client.list_artifacts(run_id):
            wanted = item.path in ("params.yaml", origin.FOLDER) or item.path.endswith(".csv")
            if wanted:
                client.download_artifacts(run_id, item.path, str(folder))
    except (MlflowException, OSError) as error:
        raise FlawlineError(
            f"the files of run {run_id} cannot be fetched: {' '.join(str(error).split())[:200]}",
            "check the store of artifacts and its keys",
        ) from error
    if not (folder / "params.yaml").is_file():
        raise FlawlineError(f"run {run_id} has lost its params.yaml", "restore the store of artifacts")
