"""Versions of data/: `dvc add` and `dvc pull` in-process: quiet, patient, never over unsaved files."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from flawline.data.ingest import clear_partials
from flawline.errors import FlawlineError
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")
_LOCK_WAITS = (1, 2, 4, 8, 16)  # seconds between tries; DVC itself gives up after three
_UNSAVED = "unsaved files"  # how DVC words that a checkout would lose work


def track_data(workspace: Workspace) -> bool:
    """Bring data.dvc up to date with data/ (`dvc add data`).

    Returns:
        Whether data.dvc changed.

    Raises:
        FlawlineError: no DVC repository, no data folder, the lock stays taken, or DVC fails.
    """
    if not workspace.data.is_dir():
        raise FlawlineError(f"{workspace.data} is missing", "run `flawline data add FOLDER --name NAME`")
    clear_partials(workspace.data)
    pointer = workspace.root / "data.dvc"
    before = pointer.read_bytes() if pointer.is_file() else None
    with _repo(workspace) as repo:
        _patiently("dvc add data", partial(repo.add, [str(workspace.data)]))
    return pointer.read_bytes() != before


def pull(
    workspace: Workspace,
    targets: Iterable[str] = ("data.dvc", "backbones.dvc"),
    remote: str | None = None,
) -> dict[str, str]:
    """Fill in what the .dvc files of `targets` name and the workspace lacks (`dvc pull` of just those).

    Files that were changed or added by hand and never versioned are not overwritten. What arrived before a remote
    failed stays in DVC's cache, so that the next call goes on from there.

    Args:
        workspace: where.
        targets: names of .dvc files.
        remote: name of the DVC remote; by default the one that DVC's settings name.

    Returns:
        {target: `present` | `pulled` | `kept` (differs, and holds files that no version has) | `untracked`
        (no such .dvc file)}.

    Raises:
        FlawlineError: no DVC repository, the lock stays taken, the remote cannot be reached or refuses, or it does
            not have the files.
    """
    done: dict[str, str] = {}
    with _repo(workspace) as repo:
        for target in targets:
            path = workspace.root / target
            if not path.is_file():
                done[target] = "untracked"
                continue
            differs = _patiently(f"dvc status {target}", partial(_differs, repo, str(path)))
            done[target] = _fetch(repo, target, str(path), remote) if differs else "present"
    return done


def _fetch(repo: "Repo", target: str, path: str, remote: str | None) -> str:
    from dvc.exceptions import CheckoutError, DownloadError, DvcException

    try:
        with _heard() as said:
            _patiently(f"dvc pull {target}", partial(repo.pull, targets=[path], remote=remote))
    except FlawlineError as error:
        if isinstance(error.__cause__, DownloadError) and said:
            raise FlawlineError(
                f"{target}: the DVC remote cannot be read: {said[0]}",
                "check its address (dvc remote list), the AWS_* keys and the network, then run this again",
            ) from error
        if isinstance(error.__cause__, DvcException) and _UNSAVED in str(error.__cause__):
            return "kept"
        if isinstance(error.__cause__, CheckoutError):
            raise FlawlineError(
                f"{target}: the DVC remote does not have its files",
                "run `dvc push` where they were added, or add them here again",
            ) from error
        raise
    return "pulled"


def _differs(repo: "Repo", path: str) -> bool:
    """Whether files are absent or changed. `dvc status` does not tell: it looks at the cache first."""
    with repo.lock:
        outs = [out for stage in repo.stage.collect(path) for out in stage.outs]
        return any(not out.exists or out.changed_checksum() for out in outs)


class _Said(logging.Handler):
    """Keeps the errors that DVC only writes to its log: why a download failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        words = " ".join(f"{record.getMessage()} {cause or ''}".split())[:300]
        if words and words not in self.lines:
            self.lines.append(words)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """The errors in DVC's logs meanwhile; they are shown nowhere."""
    handler = _Said()
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in _loggers()]
    try:
        for logger in _loggers():
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.ERROR)  # silences the bars as well
        yield handler.lines
    finally:
        for logger, level, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]


@contextmanager
def _repo(workspace: Workspace) -> Iterator["Repo"]:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    quiet = _loggers()
    levels = [logger.level for logger in quiet]
    try:
        for logger in quiet:
            logger.setLevel(logging.CRITICAL)  # silences the bars as well
        with Repo(str(workspace.root)) as repo:
            yield repo
    except NotDvcRepoError as error:
        raise FlawlineError(
            f"{workspace.root} is no DVC repository",
            "run `dvc init` (or `dvc init --no-scm` without git) there",
        ) from error
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)


def _patiently(what: str, call: Callable[[], T]) -> T:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    for wait in (*_LOCK_WAITS, None):
        try:
            return call()
        except LockError as error:
            if wait is None:
                raise FlawlineError(
                    f"{what}: another DVC command holds the lock", "wait for it to end, then run this again"
                ) from error
            time.sleep(wait)
        except DvcException as error:
            first = " ".join(str(error).split())[:300]
            raise FlawlineError(
                f"{what} failed: {first}", "see `dvc doctor` and `dvc remote list`"
            ) from error
    raise AssertionError("unreachable")
