"""Unpacking archives of strangers: every name is checked, nothing but plain files is written, all of it is capped.

Neither zipfile's nor tarfile's own extraction is used: they write links, and believe what headers say about sizes.
"""

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flawline.errors import FlawlineError
from flawline.progress import track

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_CHUNK = 1 << 20
_DEEPEST, _LONGEST = 32, 255  # parts of a path; bytes of a part
_SMALL = 64 << 20  # bytes below which the compression ratio says nothing: empty masks shrink a thousandfold
_DRIVE = re.compile(r"[A-Za-z]:")
_BY_HAND = "if you trust it, unpack it yourself and add the folder"
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OSError),
)


@dataclass(frozen=True)
class Caps:
    """What an archive or a bucket may hold at most.

    Attributes:
        files: entries, folders included.
        total: bytes when unpacked.
        ratio: bytes when unpacked for each byte of the archive (not asked of a bucket).
    """

    files: int = 1_000_000
    total: int = 256 << 30
    ratio: float = 100.0

    def check(self, source: str, files: int, total: int, packed: int | None = None) -> None:
        """Raises FlawlineError where `files` or `total` bytes, from `packed` bytes, are above the caps."""
        if files > self.files:
            raise FlawlineError(
                f"{source} holds more than {self.files:,} entries", f"split it, or {_BY_HAND}"
            )
        if total > self.total:
            raise FlawlineError(f"{source} holds more than {_size(self.total)}", f"split it, or {_BY_HAND}")
        if packed is not None and total > max(_SMALL, self.ratio * packed):
            raise FlawlineError(
                f"{source} unpacks to more than {self.ratio:.0f} times its own size: a decompression bomb?",
                _BY_HAND,
            )


DEFAULT_CAPS = Caps()


def is_archive_name(name: str) -> bool:
    """Whether a file name ends like an archive that `unpack` takes."""
    return name.lower().endswith(SUFFIXES)


def archive_stem(name: str) -> str:
    """A file name without its archive suffix: `parts.tar.gz` → `parts`."""
    ending = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(ending)] or "archive"


def safe_parts(name: str, source: str) -> tuple[str, ...]:
    """The parts of a path in an archive or a bucket, checked so that joining them to a folder stays below it.

    Raises:
        FlawlineError: the name is absolute, holds `..`, a backslash, a drive, a control character, or is too long or
            not text.
    """
    parts = tuple(part for part in name.removesuffix("/").split("/") if part != ".")
    shown = ascii(name) if len(name) < 200 else ascii(name[:200]) + "…"
    reason = None
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name:
        reason = "is absolute or holds a drive or a backslash"
    elif not parts or ".." in parts or "" in parts:
        reason = "holds '..' or an empty part"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        reason = "holds a control character"
    elif len(parts) > _DEEPEST or any(len(part.encode("utf-8", "replace")) > _LONGEST for part in parts):
        reason = "is too long"
    elif any("\ud800" <= letter <= "\udfff" for letter in name):
        reason = "is not UTF-8"
    if reason:
        raise FlawlineError(f"{source}: the name {shown} {reason}", "rename the file and pack it again")
    return parts


def unpack(archive: Path, folder: Path, caps: Caps = DEFAULT_CAPS) -> None:
    """Write the plain files of a .zip or .tar (plain, .gz, .xz, .bz2) archive below `folder`, which must be empty.

    Times, owners and permissions of the archive are not kept. The archive is only read.

    Raises:
        FlawlineError: a link, a device, an unsafe or repeated name, an encrypted entry, more than `caps`, or a damaged
            archive; what was written until then stays in `folder`, for the caller to remove.
    """
    opened = _zip_entries if archive.name.lower().endswith(".zip") else _tar_entries
    seen: set[tuple[str, ...]] = set()
    files = total = 0
    packed = archive.stat().st_size
    with _told(archive), opened(archive, caps) as (entries, number):
        for name, stream in track(entries, f"unpacking {archive.name}", number):
            files += 1
            caps.check(archive.name, files, total, packed)
            parts = safe_parts(name, archive.name)
            place = folder.joinpath(*parts)
            if stream is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            if parts in seen or place.exists():
                raise FlawlineError(f"{archive.name} holds {name} twice", "pack it again")
            seen.add(parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as target, stream:
                while chunk := stream.read(_CHUNK):
                    total += len(chunk)
                    caps.check(archive.name, files, total, packed)
                    target.write(chunk)


Entries = Iterator[tuple[str, IO[bytes] | None]]  # name, content; None: a folder


@contextmanager
def _zip_entries(archive: Path, caps: Caps) -> Iterator[tuple[Entries, int | None]]:
    with zipfile.ZipFile(archive) as content:
        infos = content.infolist()
        caps.check(archive.name, len(infos), sum(info.file_size for info in infos))

        def entries() -> Entries:
            for info in infos:
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _special(archive, info.filename)
                if info.flag_bits & 1:
                    raise FlawlineError(f"{archive.name}: {info.filename} is encrypted", _BY_HAND)
                yield info.filename, None if info.is_dir() else content.open(info)

        yield entries(), len(infos)


@contextmanager
def _tar_entries(archive: Path, caps: Caps) -> Iterator[tuple[Entries, int | None]]:
    with tarfile.open(archive, "r:*") as content:

        def entries() -> Entries:
            total = 0
            for member in content:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise _special(archive, member.name)
                total += member.size  # before the content is skipped over or read
                caps.check(archive.name, 0, total)
                if member.isdir():
                    if member.name.strip("./"):
                        yield member.name, None
                    continue
                stream = content.extractfile(member)
                assert stream is not None
                yield member.name, stream
                content.members = []  # type: ignore[attr-defined]  # it keeps all: a million take a gigabyte

        yield entries(), None


def _special(archive: Path, name: str) -> FlawlineError:
    return FlawlineError(
        f"{archive.name}: {name!a} is a link, a device or a sparse file, not a plain file",
        "pack the files themselves",
    )


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    try:
        yield
    except FlawlineError:
        raise
    except OSError as error:
        if error.errno is not None:  # the disk's; BadGzipFile has none
            remedy = "free some disk space or fix its permissions, then run again"
            raise FlawlineError(f"cannot unpack {archive.name}: {error.strerror}", remedy) from error
        raise _damaged(archive, error) from error
    except _BROKEN as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: BaseException) -> FlawlineError:
    why = " ".join(str(error).split()) or type(error).__name__
    return FlawlineError(f"{archive.name} is damaged or no archive: {why}", "fetch or pack it again")


def _size(count: int) -> str:
    return f"{count / (1 << 30):,.0f} GiB" if count >= 1 << 30 else f"{count:,} bytes"
