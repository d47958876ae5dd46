"""Fetching a prefix of an S3 bucket into a folder: whole objects only, resumed after a kill, checked by size and ETag.

Endpoint, region and keys come from where every AWS tool looks: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws. Nothing of them is ever written down.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.data.archives import DEFAULT_CAPS, Caps, safe_parts
from flawline.data.s3_object import Listed, fetch_object
from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX
from flawline.progress import track

SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_READERS, _TRIES = 8, 4
_WAIT_SECONDS = 600  # for another process that fetches the same
_CONNECT_SECONDS, _READ_SECONDS = 10, 60


@dataclass(frozen=True)
class Address:
    """`s3://bucket/prefix`; the prefix has no slash at either end and may be empty."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part: what a folder of this name would be called."""
        return self.prefix.rpartition("/")[2] or self.bucket


def parse_address(text: str) -> Address:
    """Read `s3://bucket/prefix`.

    Raises:
        FlawlineError: no such address, or one that holds keys (they belong into the environment).
    """
    if "@" in text.removeprefix(SCHEME).partition("/")[0]:
        raise FlawlineError(
            "the s3:// address holds credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise FlawlineError(f"{text!a} is no s3:// address", "write s3://bucket/prefix")
    return Address(found[1], (found[2] or "").strip("/"))


def list_objects(client: Any, address: Address, caps: Caps = DEFAULT_CAPS) -> list[Listed]:
    """What lies below the prefix, or the one object of exactly that name; sorted by key, keys checked.

    Raises:
        FlawlineError: nothing there, an unsafe key, more than `caps`, or the service refuses.
    """
    folder = f"{address.prefix}/" if address.prefix else ""
    found: list[Listed] = []
    alone: list[Listed] = []
    total = 0
    with _told(address):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=address.bucket, Prefix=address.prefix)
        for page in pages:
            for item in page.get("Contents", ()):
                key, size, etag = item["Key"], int(item["Size"]), item["ETag"].strip('"')
                if key == address.prefix:
                    alone.append(Listed(key, address.name, size, etag))
                elif key.startswith(folder) and not key.endswith("/"):  # s3://b/part is not s3://b/parts
                    path = "/".join(safe_parts(key.removeprefix(folder), str(address)))
                    found.append(Listed(key, path, size, etag))
                    total += size
                    caps.check(str(address), len(found), total)
    listed = sorted(found or alone, key=lambda item: item.path)
    if not listed:
        raise FlawlineError(f"nothing lies below {address}", "check the prefix and AWS_ENDPOINT_URL")
    files = {item.path for item in listed}
    for item in listed:
        parts = item.path.split("/")
        both = files & {"/".join(parts[:deep]) for deep in range(1, len(parts))}
        if both:
            raise FlawlineError(f"{address}: {min(both)} is both a file and a folder", "rename the object")
    return listed


def fetch(address: Address, cache: Path, caps: Caps = DEFAULT_CAPS) -> Path:
    """Bring the cache's copy of a prefix up to date.

    Objects that are there with the size and ETag of the listing are not fetched again; what a killed run left of an
    object is continued; files that are listed no longer go. Eight objects at a time.

    Args:
        address: what to fetch.
        cache: folder for all addresses; this one gets a folder of its own in it.
        caps: refused above these, before anything is fetched.

    Returns:
        A folder that holds exactly the listed objects, named like the prefix.

    Raises:
        FlawlineError: see `list_objects`; an object changed or broke while it was fetched; the disk is full.
    """
    client = make_client()
    listed = list_objects(client, address, caps)
    place = cache / hashlib.sha256(f"{client.meta.endpoint_url}\0{address}".encode()).hexdigest()[:16]
    root = place / safe_parts(address.name, str(address))[-1]
    log = place / "fetched.tsv"
    with _told(address), _alone(place):
        root.mkdir(parents=True, exist_ok=True)
        known = _read_log(log)
        _drop_others(root, {item.path for item in listed})
        missing = [item for item in listed if known.get(item.path) != _mark(root / item.path, item.etag)]
        pool, stop = ThreadPoolExecutor(_READERS), threading.Event()
        try:
            with log.open("a", encoding="utf-8") as lines:
                jobs = {
                    pool.submit(fetch_object, client, address.bucket, item, place, root, stop): item
                    for item in missing
                }
                for job in track(as_completed(jobs), f"fetching {address}", len(missing)):
                    item = jobs[job]
                    lines.write(f"{_mark(job.result(), item.etag)}\t{item.path}\n")
                    lines.flush()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
        for left in place.glob(f"*{PARTIAL_SUFFIX}"):  # of versions that are listed no longer
            left.unlink()
    return root


def make_client() -> Any:
    """A boto3 client for S3 with time limits and retries; everything else from the environment."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "max_attempts": _TRIES},
        max_pool_connections=_READERS,
        # Objects are checked here, also where they come in pieces; and not every service knows AWS's newer sums.
        response_checksum_validation="when_required",
        request_checksum_calculation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise FlawlineError(f"S3 cannot be set up: {_flat(error)}", "correct the AWS_* variables") from error


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process a folder: two would continue the same half of an object."""
    from filelock import FileLock, Timeout

    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place.with_suffix(".lock"), timeout=_WAIT_SECONDS):
            yield
    except Timeout as error:
        raise FlawlineError(
            f"another process fetches into {place}", "wait for it to end, then run this again"
        ) from error


def _mark(path: Path, etag: str) -> str:
    """Says that `path` holds the version `etag`, and that nobody wrote to it since; empty where it is missing."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{etag}\t{state.st_size}\t{state.st_mtime_ns}"


def _read_log(log: Path) -> dict[str, str]:
    """{path: mark}; a line that a kill cut short marks nothing."""
    known = {}
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    if text and not text.endswith("\n"):
        log.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    for line in text.splitlines(keepends=True):
        cells = line.rstrip("\n").split("\t", 3)
        if line.endswith("\n") and len(cells) == 4:
            known[cells[3]] = "\t".join(cells[:3])
    return known


def _drop_others(root: Path, listed: set[str]) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(root).as_posix() not in listed:
            path.unlink()


@contextmanager
def _told(address: Address) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        raise FlawlineError(
            f"{address}: no AWS credentials found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        remedy = {
            "NoSuchBucket": "check the bucket's name and AWS_ENDPOINT_URL",
            "412": "it changed meanwhile: run the command again",
            "PreconditionFailed": "it changed meanwhile: run the command again",
        }.get(code, "check the credentials and what they may read")
        raise FlawlineError(f"{address}: {_flat(error)}", remedy) from error
    except BotoCoreError as error:
        raise FlawlineError(
            f"{address}: {_flat(error)}",
            "check AWS_ENDPOINT_URL and the network, then run again: it goes on where it stopped",
        ) from error
    except OSError as error:
        raise FlawlineError(
            f"cannot write what {address} holds: {error.strerror or error}",
            "free some disk space, then run again: it goes on where it stopped",
        ) from error


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
