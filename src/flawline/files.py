"""Files that are either whole or absent: write to a temporary name, then rename.

A kill or a full disk in the middle of a write leaves the old file (or none), never half of a new one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError

PARTIAL_SUFFIX = ".partial"


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")


def _no_space(path: Path, error: OSError) -> FlawlineError:
    return FlawlineError(
        f"cannot write {path}: {error.strerror}",
        "free some disk space or fix its permissions, then run again",
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes `path`'s name only if the block succeeds."""
    path = Path(path)
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _no_space(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it replaces `path` only if the block succeeds."""
    path = Path(path)
    partial = _partial(path)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise _no_space(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, floats as they are (repr), no NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file becomes a FlawlineError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing", "run the stage that makes it (dvc repro)") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FlawlineError(
            f"{path} is not valid JSON: {error}", "delete it and run its stage again"
        ) from error


def write_parquet(path: Path, table: Any) -> None:
    """Write a pandas data frame atomically, without an index and without time stamps."""
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False, compression="zstd")


def read_parquet(path: Path) -> Any:
    """Read a pandas data frame; a missing or broken file becomes a FlawlineError that names it."""
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise FlawlineError(f"{path} is missing", "run the stage that makes it (dvc repro)") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise FlawlineError(f"{path} cannot be read: {error}", "delete it and run its stage again") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_folder(path: Path) -> str:
    """SHA-256 over the sorted relative names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def inside(root: Path, relative: str | Path) -> Path:
    """`root / relative`, checked: the resolved path (links followed) must stay inside `root`."""
    path = Path(root) / relative
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise FlawlineError(f"{path} leads outside {root}", "remove the link or the '..' from the path")
    return path
