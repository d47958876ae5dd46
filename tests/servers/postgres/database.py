"""A real PostgreSQL of the tests' own, on loopback, with its folder where its user may go."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD = "flawline-planted-database-secret"
DATABASES = ("mlflow", "mlflow_auth", "prefect")
_USER = "postgres"
_SECONDS = 60


def programs() -> Path | None:
    """Folder of initdb, postgres, pg_dump; Debian keeps it off PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    return versions[-1].parent if versions else None


def why_not() -> str | None:
    """Why no PostgreSQL can be started here, or None."""
    if programs() is None:
        return "no PostgreSQL here (Debian and Ubuntu: apt-get install postgresql)"
    if os.geteuid() == 0 and _identity() is None:
        return f"PostgreSQL refuses to run as root, and there is no user {_USER}"
    return None


def _identity() -> Mapping[str, Any] | None:
    """How to start a process that is not root's; {} where this one is not."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        return None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclass(frozen=True)
class Database:
    """A running server with one owner, `flawline`, and the databases of `DATABASES`."""

    bin: Path
    port: int

    def address(self, name: str, driver: str = "postgresql", password: str = PASSWORD) -> str:
        """As SQLAlchemy names a database."""
        return f"{driver}://flawline:{password}@127.0.0.1:{self.port}/{name}"

    def run(self, program: str, *arguments: str, given: str = "", database: str = "postgres") -> str:
        """psql, pg_dump and their like, as the owner."""
        about = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "flawline", "-d", database]
        done = subprocess.run(
            [str(self.bin / program), *about, *arguments],
            input=given,
            capture_output=True,
            text=True,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sql(self, command: str, database: str = "postgres") -> str:
        return self.run("psql", "-v", "ON_ERROR_STOP=1", "-qAtc", command, database=database)

    def make(self, name: str) -> None:
        self.sql(f'create database "{name}"')

    def drop(self, name: str) -> None:
        self.sql(f'drop database "{name}" with (force)')


@contextmanager
def running() -> Iterator[Database]:
    """Make a cluster, start it, make the databases; all of it is gone at the end."""
    folder, identity = programs(), _identity()
    assert folder is not None and identity is not None
    place = Path(tempfile.mkdtemp(prefix="flawline-postgres-"))  # pytest's folders are closed to other users
    process: subprocess.Popen[bytes] | None = None
    try:
        (place / "secret").write_text(PASSWORD + "\n")
        if identity:
            for path in (place, place / "secret"):
                os.chown(path, identity["user"], identity["group"])
        data = place / "data"
        made = [
            "-D",
            str(data),
            "-U",
            "flawline",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-A",
            "scram-sha-256",
        ]
        done = subprocess.run(
            [str(folder / "initdb"), *made, f"--pwfile={place / 'secret'}"],
            capture_output=True,
            cwd=place,
            **identity,
        )
        assert done.returncode == 0, done.stderr
        database = Database(folder, _free_port())
        options = [f"port={database.port}", f"unix_socket_directories={place}", "listen_addresses=127.0.0.1"]
        options += ["fsync=off", "max_connections=100"]
        command = [str(folder / "postgres"), "-D", str(data)]
        for option in options:
            command += ["-c", option]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place,
                start_new_session=True,
                **identity,
            )
        _wait(database, process, place / "log")
        for name in DATABASES:
            database.make(name)
        yield database
    finally:
        if process:
            process.terminate()  # "smart" would wait for clients: give it a moment, then "fast"
            process.send_signal(2)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _wait(database: Database, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            database.sql("select 1")
            return
        except AssertionError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
