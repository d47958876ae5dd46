"""Where images come from: a folder, and a prefix of a real S3 server on loopback (moto's)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spots

from flawline.data.storage import make_client
from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.watch.incoming import open_source, unseen
from flawline.watch.look import look
from flawline.watch.state import State
from flawline.workspace import Workspace


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client and an empty bucket `line`."""
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = make_client()
    client.create_bucket(Bucket="line")
    yield client
    running.stop()


def test_a_bucket_is_watched_by_content(
    plant: Workspace, settings: Settings, detector: spots.Spots, bucket: Any, arrive: Callable
) -> None:
    paths = arrive("burn", 5)

    def put(path: Path, key: str) -> None:
        bucket.put_object(Bucket="line", Key=key, Body=path.read_bytes())

    def once():
        source = open_source(plant, "s3://line/camera 1")
        return look(plant, settings, detector, "a" * 64, source)  # type: ignore[arg-type]

    for path in paths[:3]:
        put(path, f"camera 1/{path.name}")
    assert once().counts == {"new": 3}
    assert once().counts == {}
    for path in paths[3:]:
        put(path, f"camera 1/late/{path.name}")
    put(paths[0], "camera 1/again.png")  # another key, the same image
    put(paths[1], f"camera 1/{paths[0].name}")  # overwritten by one that was counted
    last = once()
    assert last.counts == {"new": 2} and last.total == {"new": 5} and last.opened == [1]
    with State(plant.state / "watch") as state:
        assert set(state.stamps("s3://line/camera 1")) == {
            "again.png",
            *(path.name for path in paths[:3]),
            *(f"late/{path.name}" for path in paths[3:]),
        }
    bucket.delete_object(Bucket="line", Key="camera 1/again.png")
    assert once().total == {"new": 5}


def test_a_folder_is_listed_sorted_and_relative_ones_start_at_the_workspace(
    plant: Workspace, arrive: Callable
) -> None:
    arrive("good", 3)
    source = open_source(plant, "incoming")
    assert source == open_source(plant, str(plant.root / "incoming"))
    with State(plant.state / "watch") as state:
        found = list(unseen(source, state, []))
        assert [one.name for one in found] == [f"good-{k:03d}.png" for k in range(3)]
    with pytest.raises(FlawlineError, match="the s3:// address holds credentials"):
        open_source(plant, "s3://key:secret@line/x")


def test_a_file_that_nobody_may_read_is_told_and_the_rest_goes_on(
    plant: Workspace, arrive: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first, *_] = arrive("good", 2)
    from flawline.watch import incoming

    whole = incoming.sha256_file

    def refused(path: Path) -> str:
        if path == first:
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(incoming, "sha256_file", refused)
    problems: list[str] = []
    with State(plant.state / "watch") as state:
        assert [one.name for one in unseen(open_source(plant, "incoming"), state, problems)] == [
            "good-001.png"
        ]
    assert problems == ["good-000.png: cannot be read: Permission denied"]
