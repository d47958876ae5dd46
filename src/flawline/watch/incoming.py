"""What came in since the last look: images of a folder or of an S3 prefix, each by its content."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flawline.data.images import is_image_name
from flawline.data.scratch import scratch
from flawline.data.storage import SCHEME, fetch, parse_address
from flawline.errors import FlawlineError
from flawline.files import sha256_file
from flawline.watch.state import State
from flawline.workspace import Workspace


@dataclass(frozen=True)
class Incoming:
    """An image file: its path here, its name in the source (POSIX, relative), its content's hash, its stamp."""

    path: Path
    name: str
    sha256: str
    stamp: tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """A source made readable: its name in the state (no credentials are ever part of it), and the folder to list."""

    told: str
    folder: Path


def open_source(workspace: Workspace, given: str) -> Source:
    """A folder as it is; of an S3 prefix the local copy, brought up to date by key, size and ETag.

    Raises:
        FlawlineError: no such folder, or the bucket cannot be read.
    """
    if given.startswith(SCHEME):
        address = parse_address(given)
        return Source(str(address), fetch(address, scratch(workspace.root) / "s3"))
    folder = Path(given)
    folder = (folder if folder.is_absolute() else workspace.root / folder).resolve()
    if not folder.is_dir():
        raise FlawlineError(
            f"{given} is no folder", "name the folder or the s3:// prefix that images arrive in"
        )
    return Source(str(folder), folder)


def unseen(source: Source, state: State, problems: list[str]) -> Iterator[Incoming]:
    """Images whose content was never looked at, sorted by name; each content once.

    A file whose size, modification time and inode are what they were is not read again. Links are followed only
    within the source.

    Args:
        problems: gets a clause for each file that cannot be read.
    """
    before = state.stamps(source.told)
    given: set[str] = set()
    for path in sorted(source.folder.rglob("*")):
        name = path.relative_to(source.folder).as_posix()
        if not is_image_name(path) or any(part.startswith(".") for part in Path(name).parts):
            continue
        try:
            if not path.is_file() or not path.resolve().is_relative_to(source.folder):
                continue
            now = path.stat()
            stamp = (now.st_size, now.st_mtime_ns, now.st_ino)
            old = before.get(name)
            if old is not None and old[:3] == stamp:
                continue
            sha256 = sha256_file(path)
        except (OSError, RuntimeError) as error:  # it went away, or nobody may read it
            problems.append(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        if sha256 in given or state.has(sha256):
            state.stamp(source.told, name, stamp, sha256)  # moved, or another name of the same image
            continue
        given.add(sha256)
        yield Incoming(path, name, sha256, stamp)
