"""Fetching from a real S3 server on loopback (moto's)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flawline.data import s3_object, storage
from flawline.data.archives import Caps
from flawline.data.ingest import add_dataset
from flawline.data.s3_object import Listed, partial_file
from flawline.data.storage import fetch, make_client, parse_address
from flawline.errors import FlawlineError
from flawline.files import read_json
from flawline.workspace import Workspace

from .test_archives import zipped
from .trees import category, picture

moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client and an empty bucket `parts`; the environment names the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = make_client()
    client.create_bucket(Bucket="parts")
    yield client
    for item in client.list_objects_v2(Bucket="parts").get("Contents", []):
        client.delete_object(Bucket="parts", Key=item["Key"])
    client.delete_bucket(Bucket="parts")


def put(client: Any, **objects: bytes) -> None:
    for key, content in objects.items():
        client.put_object(Bucket="parts", Key=key, Body=content)


def listed(client: Any, name: str, size: int) -> Listed:
    etag = client.head_object(Bucket="parts", Key=f"set/{name}")["ETag"].strip('"')
    return Listed(f"set/{name}", name, size, etag)


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """(key, range) of every GET from now on."""
    calls: list[tuple[str, str | None]] = []
    real = make_client

    def watched() -> Any:
        client = real()
        get = client.get_object

        def recorded(**asked: Any) -> Any:
            calls.append((asked["Key"], asked.get("Range")))
            return get(**asked)

        client.get_object = recorded
        return client

    monkeypatch.setattr(storage, "make_client", watched)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("text", "bucket_name", "prefix", "name"),
    [
        ("s3://parts", "parts", "", "parts"),
        ("s3://parts/", "parts", "", "parts"),
        ("s3://parts/line 3/gear/", "parts", "line 3/gear", "gear"),
    ],
)
def test_addresses(text: str, bucket_name: str, prefix: str, name: str) -> None:
    address = parse_address(text)
    assert (address.bucket, address.prefix, address.name) == (bucket_name, prefix, name)
    assert str(address) == text.rstrip("/")


def test_addresses_that_are_none() -> None:
    for text in ("s3://", "s3://A B/x", "s3:///x", "http://parts/x"):
        with pytest.raises(FlawlineError, match="is no s3:// address"):
            parse_address(text)
    with pytest.raises(FlawlineError, match="holds credentials") as error:
        parse_address("s3://key:topsecret@parts/x")
    assert "topsecret" not in str(error.value)


def test_a_prefix_is_a_folder(bucket: Any, tmp_path: Path) -> None:
    put(
        bucket,
        **{
            "set/a.png": b"a",
            "set/sub/ä 1.png": b"b" * 100,
            "set/": b"",
            "settled/c.png": b"c",
            "set/e": b"",
        },
    )
    folder = fetch(parse_address("s3://parts/set"), tmp_path)
    assert folder.name == "set" and contents(folder) == {"a.png": b"a", "sub/ä 1.png": b"b" * 100, "e": b""}


def test_a_second_fetch_asks_only_for_what_changed(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, **{"set/a": b"a", "set/b": b"b", "set/c": b"c", "set/gone/d": b"d"})
    calls = fetched(monkeypatch)
    folder = fetch(parse_address("s3://parts/set"), tmp_path)
    assert len(calls) == 4
    calls.clear()
    fetch(parse_address("s3://parts/set"), tmp_path)
    assert calls == []
    put(bucket, **{"set/b": b"B"})  # same size
    bucket.delete_object(Bucket="parts", Key="set/gone/d")
    (folder / "c").write_bytes(b"x")  # somebody wrote into the cache
    os.utime(folder / "c", ns=(1, 1))
    fetch(parse_address("s3://parts/set"), tmp_path)
    assert sorted(calls) == [("set/b", None), ("set/c", None)]
    assert contents(folder) == {"a": b"a", "b": b"B", "c": b"c"}


def test_a_killed_fetch_is_continued(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = os.urandom(300_000)
    put(bucket, **{"set/big": big, "set/small": b"s"})
    folder = fetch(parse_address("s3://parts/set"), tmp_path)
    # As a kill leaves it: the log ends in half a line, the object is there in part.
    log = folder.parent / "fetched.tsv"
    lines = log.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\tsmall\n")]
    half = next(line for line in lines if line.endswith("\tbig\n"))[:20]
    log.write_text("".join(kept) + half)
    (folder / "big").unlink()
    partial_file(listed(bucket, "big", len(big)), folder.parent).write_bytes(big[:100_000])
    calls = fetched(monkeypatch)
    fetch(parse_address("s3://parts/set"), tmp_path)
    assert calls == [("set/big", "bytes=100000-")]
    assert (folder / "big").read_bytes() == big and not list(folder.parent.glob("*.partial"))


def test_what_arrives_damaged_is_not_kept(bucket: Any, tmp_path: Path) -> None:
    big = os.urandom(30_000)
    put(bucket, **{"set/big": big})
    folder = fetch(parse_address("s3://parts/set"), tmp_path)
    (folder / "big").unlink()
    partial_file(listed(bucket, "big", len(big)), folder.parent).write_bytes(
        bytes(10_000)
    )  # not the object's start
    with pytest.raises(FlawlineError, match=r"big arrived damaged.*run the command again"):
        fetch(parse_address("s3://parts/set"), tmp_path)
    assert contents(folder) == {} and not list(folder.parent.glob("*.partial"))
    fetch(parse_address("s3://parts/set"), tmp_path)
    assert contents(folder) == {"big": big}


def test_an_object_in_parts_has_another_etag(bucket: Any, tmp_path: Path) -> None:
    begun = bucket.create_multipart_upload(Bucket="parts", Key="set/big")["UploadId"]
    part = {"Bucket": "parts", "Key": "set/big", "UploadId": begun, "PartNumber": 1}
    etag = bucket.upload_part(Body=b"x" * 1000, **part)["ETag"]
    bucket.complete_multipart_upload(
        Bucket="parts",
        Key="set/big",
        UploadId=begun,
        MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]},
    )
    assert contents(fetch(parse_address("s3://parts/set"), tmp_path)) == {"big": b"x" * 1000}


@pytest.mark.parametrize("key", ["set/../../evil", "set/a//b", "set/a\\b", "set/C:/x"])
def test_keys_that_lead_elsewhere(bucket: Any, tmp_path: Path, key: str) -> None:
    put(bucket, **{"set/a": b"a", key: b"evil"})
    with pytest.raises(FlawlineError, match=r"s3://parts/set: the name "):
        fetch(parse_address("s3://parts/set"), tmp_path / "cache")
    assert contents(tmp_path) == {}


def test_a_key_that_is_file_and_folder(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"set/a": b"1", "set/a-b": b"2", "set/a/c": b"3"})
    with pytest.raises(FlawlineError, match="a is both a file and a folder"):
        fetch(parse_address("s3://parts/set"), tmp_path)


def test_caps_hold_before_anything_is_fetched(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, **{f"set/{i}": b"x" * 100 for i in range(5)})
    calls = fetched(monkeypatch)
    for caps, clause in ((Caps(files=4), "more than 4 entries"), (Caps(total=450), "more than 450 bytes")):
        with pytest.raises(FlawlineError, match=clause):
            fetch(parse_address("s3://parts/set"), tmp_path, caps)
    assert calls == []


def test_nothing_there_and_no_bucket(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match="nothing lies below s3://parts/nowhere"):
        fetch(parse_address("s3://parts/nowhere"), tmp_path)
    with pytest.raises(FlawlineError, match=r"NoSuchBucket.*check the bucket's name"):
        fetch(parse_address("s3://no-such-bucket/x"), tmp_path)


def test_no_credentials_and_no_server(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(storage, "_TRIES", 1)
    monkeypatch.setattr(s3_object, "WAITS", ())
    with pytest.raises(FlawlineError, match="check AWS_ENDPOINT_URL and the network"):
        fetch(parse_address("s3://parts/set"), tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FlawlineError, match=r"no AWS credentials found.*set AWS_ACCESS_KEY_ID"):
        fetch(parse_address("s3://parts/set"), tmp_path)


def test_a_data_set_from_a_bucket(bucket: Any, workspace: Workspace, tmp_path: Path) -> None:
    source = category(tmp_path / "set" / "gear", train=2, test=1).parent
    for path in sorted(source.rglob("*.png")):
        bucket.upload_file(str(path), "parts", f"line 3/{path.relative_to(source).as_posix()}")
    told = add_dataset(workspace, "s3://parts/line 3/", "castings")
    assert told["layout"] == "mvtec" and told["source"] == "s3://parts/line 3"
    text = (workspace.data / "castings" / "dataset.json").read_text(encoding="utf-8")
    assert "testsecret" not in text and "127.0.0.1" not in text
    assert not add_dataset(workspace, "s3://parts/line 3", "castings")["added"]


def test_an_archive_in_a_bucket(bucket: Any, workspace: Workspace, tmp_path: Path) -> None:
    files = {f"good/{i}.png": picture(tmp_path / f"{i}.png").read_bytes() for i in range(4)}
    put(bucket, **{"sets/Teile.zip": zipped(tmp_path / "a.zip", files).read_bytes()})
    told = add_dataset(workspace, "s3://parts/sets/Teile.zip", "teile")
    assert told["source"] == "s3://parts/sets/Teile.zip" and list(told["counts"]) == ["Teile"]
    assert read_json(workspace.data / "teile" / "dataset.json")["layout"] == "folder"
