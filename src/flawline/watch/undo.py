"""All or nothing over several files: what was there is kept aside until everything is done.

The journal is written before the first change. An exception takes the changes back at once; a kill -9 leaves the
journal, and the next one who asks takes them back then.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.files import inside, read_json, write_json
from flawline.workspace import Workspace

_JOURNAL = "journal.json"


@contextmanager
def undoable(workspace: Workspace, created: list[Path], changed: list[Path]) -> Iterator[None]:
    """Do something to the workspace whole or not at all. Call with `one_at_a_time` held.

    Args:
        workspace: all paths lie in it.
        created: files and folders that will be made inside; they must not be there yet.
        changed: files that will be changed, made or removed inside.
    """
    folder = _folder(workspace)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept: dict[str, str | None] = {}
    for number, path in enumerate(changed):
        kept[_named(workspace, path)] = str(number) if path.is_file() else None
        if path.is_file():
            shutil.copyfile(path, folder / str(number))
    # Written last: without it nothing is taken back, for nothing was changed.
    write_json(folder / _JOURNAL, {"created": [_named(workspace, path) for path in created], "kept": kept})
    try:
        yield
    except BaseException:
        take_back(workspace)
        raise
    shutil.rmtree(folder)


def take_back(workspace: Workspace) -> bool:
    """Undo what a killed or failed change left; False where there is nothing to undo."""
    folder = _folder(workspace)
    if not (folder / _JOURNAL).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        return False
    journal = read_json(folder / _JOURNAL)
    for name in journal["created"]:
        path = inside(workspace.root, name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name, kept in journal["kept"].items():
        path = inside(workspace.root, name)
        if kept is None:
            path.unlink(missing_ok=True)
        else:
            partial = path.with_name(f".{path.name}.undo")
            shutil.copyfile(inside(folder, kept), partial)
            partial.replace(path)
    # Last of all, and first its journal: what follows was undone and may not be undone twice.
    (folder / _JOURNAL).unlink()
    shutil.rmtree(folder)
    return True


@contextmanager
def one_at_a_time(workspace: Workspace) -> Iterator[bool]:
    """Hold the lock, and take back what a killed process left; yields whether there was anything.

    Raises:
        FlawlineError: another process holds it.
    """
    from filelock import FileLock, Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workspace.state / "defect-add.lock", timeout=0):
            yield take_back(workspace)
    except Timeout as error:
        raise FlawlineError(
            f"a defect type is being added to {workspace.root}", "wait for it to end"
        ) from error


def _folder(workspace: Workspace) -> Path:
    return workspace.state / "defect-add"


def _named(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()
