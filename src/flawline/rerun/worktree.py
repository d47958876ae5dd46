"""A commit checked out beside the workspace, to make a result again without touching what lies in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.line.git import run_git, text
from flawline.workspace import Workspace

CACHE_REMOTE = "flawline-cache"  # the workspace's own DVC cache, as the worktree's DVC sees it


def present(root: Path, commit: str) -> bool:
    """Whether this clone has the commit."""
    return bool(text(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", fails=True))


def add(workspace: Workspace, commit: str, folder: Path, patch: Path | None = None) -> Workspace:
    """Check a commit out into a folder, with a patch on top, and let DVC there find what it finds here.

    What an earlier call left in the folder is replaced. DVC there gets a cache of its own, and the remotes that the
    workspace has now: where data lies today is no part of a result. Keys in .dvc/config.local come along and go with
    the folder.

    Args:
        workspace: of the clone that has the commit.
        commit: which.
        folder: where; empty, absent, or left by an earlier call.
        patch: a git patch against the commit.

    Returns:
        The workspace inside the folder.

    Raises:
        FlawlineError: the commit is not in this clone, other files lie in the folder, or the patch does not apply.
    """
    root = workspace.root
    if not present(root, commit):
        raise FlawlineError(
            f"commit {commit} is not in this clone", "run git fetch --all, or push it where it was made"
        )
    if folder.exists() and any(folder.iterdir()) and not _ours(root, folder):
        raise FlawlineError(f"{folder} is not empty", "name a new folder with --into")
    remove(workspace, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run_git(root, "worktree", "add", "--detach", "--force", str(folder), commit)
    if patch:
        run_git(folder, "apply", "--binary", "--whitespace=nowarn", str(patch))
    inside = Workspace(folder / text(root, "rev-parse", "--show-prefix"))
    if not inside.params.is_file():
        raise FlawlineError(f"commit {commit} has no {inside.params.name}", "rerun it by hand")
    _share_remotes(workspace, inside)
    return inside


def remove(workspace: Workspace, folder: Path) -> None:
    """Take the worktree away again, whatever was written into it."""
    if folder.exists() and _ours(workspace.root, folder):
        run_git(workspace.root, "worktree", "remove", "--force", "--force", str(folder), fails=True)
        shutil.rmtree(folder, ignore_errors=True)
    run_git(workspace.root, "worktree", "prune", fails=True)


def _ours(root: Path, folder: Path) -> bool:
    """Whether git knows the folder as a worktree of this clone, and not as the clone itself."""
    listed = text(root, "worktree", "list", "--porcelain", fails=True).split("\n\n")[1:]
    return str(folder.resolve()) in {entry.split("\n")[0].removeprefix("worktree ") for entry in listed}


def _share_remotes(workspace: Workspace, inside: Workspace) -> None:
    from dvc.config import Config
    from dvc.repo import Repo

    given = Config(dvc_dir=str(workspace.root / ".dvc"))
    with Repo(str(workspace.root)) as repo:
        cache = repo.cache.local.path
    with _private(inside.root / ".dvc" / "config.local"):
        own = Config(dvc_dir=str(inside.root / ".dvc"))
        with own.edit("local", validate=False) as conf:
            for level in ("repo", "local"):  # relative addresses are read as absolute ones, and written so
                present_one = given.load_one(level)
                for name, remote in present_one["remote"].items():
                    conf["remote"].setdefault(name, {}).update(remote)
                if "remote" in present_one["core"]:
                    conf["core"]["remote"] = present_one["core"]["remote"]
            conf["remote"][CACHE_REMOTE] = {"url": str(cache)}
            conf["cache"] = {"dir": str(inside.root / ".dvc" / "cache")}


@contextmanager
def _private(path: Path) -> Iterator[None]:
    """The file can be read by its owner alone, also while it is written."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    yield
