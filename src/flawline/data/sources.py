"""Where a data set comes from: a folder, an archive, or a prefix of an S3 bucket. All of them end as a folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flawline.data.archives import DEFAULT_CAPS, SUFFIXES, Caps, archive_stem, is_archive_name, unpack
from flawline.data.scratch import scratch
from flawline.data.storage import SCHEME, fetch, parse_address
from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX
from flawline.workspace import Workspace


@dataclass(frozen=True)
class Source:
    """A folder to read from, what dataset.json calls its origin (no local path, no credentials), and whether the
    folder above it belongs to the source as well (a licence may lie there)."""

    folder: Path
    told: str
    above: bool


@contextmanager
def opened(workspace: Workspace, given: Path | str, caps: Caps = DEFAULT_CAPS) -> Iterator[Source]:
    """Make a source readable as a folder; what was unpacked for it is removed at the end.

    Args:
        workspace: archives are unpacked, and buckets cached, in its .flawline/.
        given: a folder, a .zip or .tar archive (see flawline.data.archives), or `s3://bucket/prefix`, where the prefix
            may also be one archive.
        caps: what an archive or a bucket may hold.

    Raises:
        FlawlineError: nothing there, an unsafe or damaged archive, or the bucket cannot be read.
    """
    if isinstance(given, str) and given.startswith(SCHEME):
        address = parse_address(given)
        folder = fetch(address, scratch(workspace.root) / "s3", caps)
        alone = folder / address.name
        if is_archive_name(address.name) and alone.is_file():
            with _unpacked(workspace, alone, caps) as inner:
                yield Source(inner, str(address), False)
        else:
            yield Source(folder, str(address), False)
        return
    path = Path(given)
    if not path.is_file():
        yield Source(path, path.resolve().name, True)  # a missing folder is told by the layouts
        return
    if not is_archive_name(path.name):
        raise FlawlineError(
            f"{path} is neither a folder nor an archive", f"name one of {', '.join(SUFFIXES)}"
        )
    if path.resolve().is_relative_to(workspace.data.resolve()):
        raise FlawlineError(f"{path} lies inside {workspace.data}", "move the archive elsewhere")
    with _unpacked(workspace, path, caps) as inner:
        yield Source(inner, path.name, False)


def clear_unpacked(workspace: Workspace) -> None:
    """Remove what a killed run unpacked."""
    for folder in (scratch(workspace.root) / "unpacked").glob(f".*{PARTIAL_SUFFIX}"):
        process = folder.name.removesuffix(PARTIAL_SUFFIX).rpartition(".")[2]
        if process.isdecimal() and not runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def runs(process: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _unpacked(workspace: Workspace, archive: Path, caps: Caps) -> Iterator[Path]:
    clear_unpacked(workspace)
    unpacked = scratch(workspace.root) / "unpacked"
    place = unpacked / f".{archive.name}.{os.getpid()}{PARTIAL_SUFFIX}"
    shutil.rmtree(place, ignore_errors=True)
    # A plain folder's category is called like its folder: here, like the archive.
    inner = place / archive_stem(archive.name)
    try:
        inner.mkdir(parents=True)
        unpack(archive, inner, caps)
        yield inner
    finally:
        shutil.rmtree(place, ignore_errors=True)
