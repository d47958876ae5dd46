"""Ingestion from a real S3 server: keys, kills, cuts, changes, ten thousand objects, a full disk."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flawline.data import s3_object, storage
from flawline.data.ingest import add_dataset
from flawline.data.s3_object import Listed, partial_file
from flawline.data.storage import fetch, make_client, parse_address
from flawline.errors import FlawlineError
from flawline.workspace import Workspace
from servers.storage.conftest import SmallDisk
from servers.storage.proxy import cutting
from servers.storage.weed import Weed

ADDRESS = parse_address("s3://parts/set")
BIG = 16 << 20  # more than the sockets between hold


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(client: Any, objects: dict[str, bytes]) -> dict[str, bytes]:
    with ThreadPoolExecutor(8) as pool:
        for job in [
            pool.submit(client.put_object, Bucket="parts", Key=f"set/{k}", Body=v) for k, v in objects.items()
        ]:
            job.result()
    return objects


def watched(
    monkeypatch: pytest.MonkeyPatch, after: Callable[[int], None] = lambda n: None
) -> list[tuple[str, str]]:
    """(path, range) of every GET from now on; `after` is called behind each with how many there were."""
    calls: list[tuple[str, str]] = []
    real = make_client

    def make() -> Any:
        client = real()
        get = client.get_object

        def recorded(**asked: Any) -> Any:
            answer = get(**asked)
            calls.append((asked["Key"].removeprefix("set/"), asked.get("Range", "")))
            after(len(calls))
            return answer

        client.get_object = recorded
        return client

    monkeypatch.setattr(storage, "make_client", make)
    return calls


@contextmanager
def one_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_READERS", 1)
        yield


def test_wrong_keys_are_one_line_and_write_nothing(
    s3: Any, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, {"good/0.png": b"x"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-planted-secret")
    with pytest.raises(FlawlineError, match=r"SignatureDoesNotMatch.*check the credentials") as error:
        add_dataset(workspace, "s3://parts/set", "castings")
    assert "\n" not in str(error.value) and "planted" not in str(error.value)
    assert not (workspace.root / "data" / "castings").exists()
    assert [p.name for p in (workspace.root / ".flawline").rglob("*") if p.is_file()] == [".gitignore"]


def test_killed_in_the_middle_and_back_ends_byte_identical(
    s3: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = put(
        s3, {f"{n:02d}.png": os.urandom(200_000) for n in range(20)} | {"10-big.bin": os.urandom(BIG)}
    )
    back: list[threading.Thread] = []

    def kill(count: int) -> None:
        if count == 11:  # the big one has been answered, and its bytes are on the way
            weed.kill()
            back.append(threading.Timer(2.0, weed.start))
            back[0].start()

    calls = watched(monkeypatch, kill)
    try:
        with one_reader(monkeypatch):
            folder = fetch(ADDRESS, tmp_path)
    finally:
        for timer in back:
            timer.join()
        if weed.process is None:
            weed.start()
    assert contents(folder) == wanted
    resumed = [asked for name, asked in calls if name == "10-big.bin"]
    assert len(resumed) >= 2 and resumed[0] == ""
    assert len(calls) <= len(wanted) + 2, "what had arrived was not fetched again"
    assert not list(folder.parent.glob("*.partial"))


def test_a_server_that_stays_away_is_one_line_and_the_next_call_goes_on(
    s3: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = put(s3, {f"{n}.png": os.urandom(100_000) for n in range(8)})
    monkeypatch.setattr(s3_object, "WAITS", (0.1,))
    monkeypatch.setattr(storage, "_TRIES", 1)
    with monkeypatch.context() as patched:
        watched(patched, lambda count: weed.kill() if count == 4 else None)
        patched.setattr(storage, "_READERS", 1)
        try:
            with pytest.raises(FlawlineError, match=r"goes on where it stopped$") as error:
                fetch(ADDRESS, tmp_path)
        finally:
            weed.start()
    assert "\n" not in str(error.value)
    [root] = [p for p in tmp_path.rglob("set") if p.is_dir()]
    there = contents(root)
    assert 3 <= len(there) < 8 and all(wanted[name] == content for name, content in there.items())
    calls = watched(monkeypatch)
    assert contents(fetch(ADDRESS, tmp_path)) == wanted
    assert len(calls) <= 8 - 3


def test_answers_that_are_cut_short_are_continued(
    s3: Any, weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = put(s3, {"big.bin": os.urandom(3_000_000), "small.bin": b"s" * 1000})
    monkeypatch.setattr(s3_object, "WAITS", (0.05, 0.05))
    with cutting(weed.ports["s3"], every=1_000_000, times=2) as (port, cuts):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        calls = watched(monkeypatch)
        with one_reader(monkeypatch):
            folder = fetch(ADDRESS, tmp_path)
    assert cuts == [1, 2] and contents(folder) == wanted
    ranges = [asked for name, asked in calls if name == "big.bin"]
    assert len(ranges) == 3 and ranges[1].startswith("bytes=") and ranges[1] != "bytes=0-"


def test_an_object_that_changes_in_between_is_told_and_then_fetched(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, {"a": b"a" * 1000, "b": b"b" * 1000})
    with monkeypatch.context() as patched:
        real = storage.list_objects

        def listed_then_changed(*given: Any) -> list[Listed]:
            found = real(*given)
            put(s3, {"b": b"B" * 1000})
            return found

        patched.setattr(storage, "list_objects", listed_then_changed)
        with pytest.raises(FlawlineError, match=r"it changed meanwhile: run the command again"):
            fetch(ADDRESS, tmp_path)
    [root] = [p for p in tmp_path.rglob("set") if p.is_dir()]
    assert not (root / "b").exists()
    assert contents(fetch(ADDRESS, tmp_path)) == {"a": b"a" * 1000, "b": b"B" * 1000}


def test_objects_in_parts_are_checked_part_by_part(s3: Any, tmp_path: Path) -> None:
    whole = os.urandom(12 << 20)
    cuts = [0, 5 << 20, 11 << 20, 12 << 20]  # not of one size
    for name, ends in (("uneven", cuts), ("even", [0, 6 << 20, 12 << 20])):
        begun = s3.create_multipart_upload(Bucket="parts", Key=f"set/{name}")["UploadId"]
        about = {"Bucket": "parts", "Key": f"set/{name}", "UploadId": begun}
        parts = [
            {"PartNumber": n, "ETag": s3.upload_part(Body=whole[a:b], PartNumber=n, **about)["ETag"]}
            for n, (a, b) in enumerate(pairwise(ends), 1)
        ]
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **about)
    folder = fetch(ADDRESS, tmp_path)
    assert contents(folder) == {"uneven": whole, "even": whole}
    for name in ("uneven", "even"):
        (folder / name).unlink()
        etag = s3.head_object(Bucket="parts", Key=f"set/{name}")["ETag"].strip('"')
        assert "-" in etag
        bad = partial_file(Listed(f"set/{name}", name, len(whole), etag), folder.parent)
        bad.write_bytes(b"?" + whole[1 : 1 << 20])
        with pytest.raises(FlawlineError, match=f"set/{name} arrived damaged"):
            fetch(ADDRESS, tmp_path)
        assert not bad.exists()
        assert contents(fetch(ADDRESS, tmp_path))[name] == whole


def test_ten_thousand_small_objects(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    wanted = put(s3, {f"{n % 7}/{n:05d}.png": b"%05d" % n * 40 for n in range(10_000)})
    begin = time.monotonic()
    folder = fetch(ADDRESS, tmp_path)
    took = time.monotonic() - begin
    record_property("seconds", round(took, 1))
    assert contents(folder) == wanted
    assert took < 240, f"{took:.0f} s"
    calls = watched(monkeypatch)
    begin = time.monotonic()
    fetch(ADDRESS, tmp_path)
    assert calls == [] and time.monotonic() - begin < 60
    print(f"10,000 objects: {took:.1f} s, and {time.monotonic() - begin:.1f} s where nothing changed")


def test_a_full_disk_keeps_what_is_whole_and_goes_on(
    s3: Any, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk.folder
    small_disk.resize(8)
    wanted = put(s3, {f"{n}.bin": os.urandom(1_500_000) for n in range(8)})
    with (
        one_reader(monkeypatch),
        pytest.raises(FlawlineError, match=r"No space left.*free some disk space") as error,
    ):
        fetch(ADDRESS, disk)
    assert "\n" not in str(error.value)
    [root] = [p for p in disk.rglob("set") if p.is_dir()]
    there = contents(root)
    assert len(there) >= 4 and all(wanted[name] == content for name, content in there.items())
    small_disk.resize(64)
    calls = watched(monkeypatch)
    assert contents(fetch(ADDRESS, disk)) == wanted
    assert not {name for name, _ in calls} & {*there} or len(calls) <= 8 - len(there) + 1
    assert any(asked for _, asked in calls), "the object that did not fit was continued"
