"""One object of a bucket to one file: continued where the line broke, checked before it takes its name."""

import base64
import hashlib
import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import PARTIAL_SUFFIX

# Seconds between tries that brought nothing; botocore tries each call a few times by itself. Together they outlast a
# server that is started anew, and tell of one that stays away within a minute.
WAITS: tuple[float, ...] = (1, 2, 4, 8)
_CHUNK = 1 << 20
_MD5, _OF_PARTS = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "503", "500"}


@dataclass(frozen=True)
class Listed:
    """One object of a listing: its key, its path below the folder, its size in bytes and its ETag (no quotes)."""

    key: str
    path: str
    size: int
    etag: str


def partial_file(item: Listed, place: Path) -> Path:
    """Where an object's first bytes wait for the rest.

    The name holds the ETag: what is left of an older version of the object is never continued.
    """
    version = hashlib.sha256(f"{item.key}\0{item.etag}\0{item.size}".encode()).hexdigest()[:32]
    return place / f"{version}{PARTIAL_SUFFIX}"


class Stopped(Exception):
    """Another object failed, or the user wants no more."""


def fetch_object(
    client: Any, bucket: str, item: Listed, place: Path, root: Path, stop: threading.Event
) -> Path:
    """Fetch the listed version of an object to `root / item.path`, whole or not at all.

    Args:
        client: boto3's, for S3.
        bucket: its bucket.
        item: from a listing.
        place: folder for what is not whole yet, on the same file system as `root`.
        root: folder it goes to.
        stop: set by whoever waits no longer; what arrived until then is kept.

    Raises:
        Stopped: `stop` was set.
        FlawlineError: it arrived damaged. botocore's ClientError: the service refuses, or it is another version by
            now (412). BotoCoreError: the service stays away. OSError: the disk is full. The last two leave what
            arrived, for the next call to go on from.
    """
    partial = partial_file(item, place)
    answer = _receive(client, bucket, item, partial, stop)
    size = partial.stat().st_size
    if size != item.size or not _intact(client, bucket, item, partial, answer):
        partial.unlink()
        raise FlawlineError(f"s3://{bucket}/{item.key} arrived damaged", "run the command again")
    target = root / item.path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
    return target


def _receive(
    client: Any, bucket: str, item: Listed, partial: Path, stop: threading.Event
) -> dict[str, Any] | None:
    """Bring `partial` to the object's size; the last answer's head, or None where nothing was missing."""
    from botocore.exceptions import BotoCoreError, ClientError

    tries = 0
    while True:
        have = partial.stat().st_size if partial.is_file() else 0
        if have > item.size:
            partial.unlink()
            have = 0
        if have == item.size and have:
            return None
        more = {"Range": f"bytes={have}-"} if have else {}
        try:
            answer = client.get_object(Bucket=bucket, Key=item.key, IfMatch=f'"{item.etag}"', **more)
            # 206: the service continues where we are; some know no ranges and send all of it.
            continued = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            with partial.open("ab" if continued else "wb") as target:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    target.write(chunk)
                    if stop.is_set():
                        raise Stopped
            return dict(answer)
        except (BotoCoreError, ClientError, ConnectionError, TimeoutError) as error:  # the line broke
            if isinstance(error, ClientError) and not _passes(error):
                raise
            tries = 0 if partial.is_file() and partial.stat().st_size > have else tries + 1
            if tries > len(WAITS):
                raise
            # The readers that broke off together do not come back together.
            if WAITS and stop.wait(WAITS[max(0, tries - 1)] * random.uniform(0.5, 1)):
                raise Stopped from error


def _passes(error: Any) -> bool:
    """Whether a refusal is one of a busy or starting service."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or error.response.get("Error", {}).get("Code") in _BUSY


def _intact(client: Any, bucket: str, item: Listed, partial: Path, answer: dict[str, Any] | None) -> bool:
    """Whether the file is what the service says it holds, by the strongest sum that it tells.

    An ETag is the content's MD5, or that of its parts' MD5s (`…-7`), unless a key of KMS or of the customer encrypts
    it: then, and where the parts' sizes are not told, a SHA-256 that the service keeps, or the size alone.
    """
    head, known = answer or client.head_object(Bucket=bucket, Key=item.key), False
    if head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head:
        if _MD5.fullmatch(item.etag):
            return _digest(partial, "md5") == item.etag
        if parts := _OF_PARTS.fullmatch(item.etag):
            for sizes in _part_sizes(client, bucket, item, int(parts[1])):
                if _digest_of_parts(partial, sizes) == item.etag:
                    return True
                known = True
            if known:
                return False
    head = client.head_object(Bucket=bucket, Key=item.key, ChecksumMode="ENABLED")
    kept = head.get("ChecksumSHA256", "")
    if not kept or "-" in kept or head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return True
    return base64.b64encode(bytes.fromhex(_digest(partial, "sha256"))).decode() == kept


def _part_sizes(client: Any, bucket: str, item: Listed, count: int) -> Iterator[list[int]]:
    """Bytes of each part an object was uploaded in; nothing where the service does not tell them.

    First as nearly every tool uploads: parts of one size, the rest in the last. Then as each part says.
    """
    from botocore.exceptions import ClientError

    sizes: list[int] = []
    try:
        for number in range(1, count + 1):
            head = client.head_object(Bucket=bucket, Key=item.key, PartNumber=number)
            if head.get("PartsCount") != count:
                return
            sizes.append(int(head["ContentLength"]))
            if number == 1 and (count - 1) * sizes[0] < item.size <= count * sizes[0]:
                yield [sizes[0]] * (count - 1) + [item.size - (count - 1) * sizes[0]]
    except ClientError:
        return
    if sum(sizes) == item.size:
        yield sizes


def _digest_of_parts(path: Path, sizes: list[int]) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        for size in sizes:
            part = hashlib.md5(usedforsecurity=False)
            while size > 0 and (chunk := stream.read(min(_CHUNK, size))):
                part.update(chunk)
                size -= len(chunk)
            whole.update(part.digest())
    return f"{whole.hexdigest()}-{len(sizes)}"


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
