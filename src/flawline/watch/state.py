"""What the watch remembers, in one SQLite file below .state/watch/: every image once, crops, review items.

A batch of images is one transaction: a kill -9 leaves a whole number of batches, and the rest is looked at again. An
image is named by its content, so that neither another name nor another place counts it twice.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from flawline.errors import FlawlineError

VERSION = 1
OPEN, ACCEPTED, REJECTED = "open", "accepted", "rejected"
GOOD, NEW, BROKEN = "good", "new", "broken"
#: explained by a type that the champion names, or by an image that a person labelled
KNOWN = "known"
#: as a known good image: most likely a false alarm
LIKE_GOOD = "like good"
#: as a cluster that a person rejected
LIKE_REJECTED = "like rejected"

_SCHEMA = """
CREATE TABLE files (source TEXT, name TEXT, size INTEGER, mtime INTEGER, inode INTEGER, sha256 TEXT,
  PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE images (number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT UNIQUE, name TEXT, prompts TEXT,
  score REAL, verdict TEXT, told TEXT, whole BLOB);
CREATE TABLE crops (sha256 TEXT PRIMARY KEY, number INTEGER, fingerprint TEXT, box TEXT, vector BLOB, file TEXT,
  item INTEGER) WITHOUT ROWID;
CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT, name TEXT, words TEXT, place TEXT,
  opened_after INTEGER, stability REAL);
CREATE TABLE known (sha256 TEXT, prompts TEXT, crop REAL, score REAL, vector BLOB, whole BLOB,
  PRIMARY KEY (sha256, prompts, crop)) WITHOUT ROWID;
CREATE INDEX by_verdict ON images (prompts, verdict);
"""


@dataclass(frozen=True)
class Crop:
    """A crop without an explanation: its image's content, where it lies in it, its unit feature [D], its item."""

    sha256: str
    name: str
    score: float
    box: tuple[int, int, int, int]
    vector: np.ndarray
    file: str
    item: int | None


@dataclass(frozen=True)
class Item:
    """A cluster that was put before a person.

    Attributes:
        status: `open`, `accepted` or `rejected`.
        name, words: suggested while it is open, else as accepted.
        place: `dataset/category` once accepted, else empty.
        opened_after: images that had been looked at by then.
        stability: of the cluster when it was opened.
    """

    number: int
    status: str
    name: str
    words: str
    place: str
    opened_after: int
    stability: float


class State:
    """The open file. Use it in a `with`; `writing()` makes a transaction."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            FlawlineError: the file is damaged, or of a later version.
        """
        self.folder = folder
        self.images_folder = folder / "images"
        path = folder / "watch.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(path, timeout=30, isolation_level=None)
            self.base.execute("PRAGMA journal_mode = WAL")
            [found] = self.base.execute("PRAGMA user_version").fetchone()
            if found == 0:
                self.base.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            elif found != VERSION:
                raise FlawlineError(
                    f"{path} is of version {found}, this program reads {VERSION}", "update flawline"
                )
        except (sqlite3.Error, OSError) as error:
            raise FlawlineError(
                f"{path} cannot be used: {error}", "move it away: the watch then starts anew"
            ) from error

    def __enter__(self) -> "State":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.base.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All or nothing of what is written inside."""
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.base.execute("ROLLBACK")
            raise
        self.base.execute("COMMIT")

    # --- images ---------------------------------------------------------------------------------------------
    def stamps(self, source: str) -> dict[str, tuple[int, int, int, str]]:
        """{name: (size, mtime in ns, inode, sha256)} of the files of a source, as they were when they were read."""
        rows = self.base.execute(
            "SELECT name, size, mtime, inode, sha256 FROM files WHERE source = ?", (source,)
        )
        return {name: (size, mtime, inode, sha256) for name, size, mtime, inode, sha256 in rows}

    def stamp(self, source: str, name: str, stamp: tuple[int, int, int], sha256: str) -> None:
        self.base.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (source, name, *stamp, sha256)
        )

    def has(self, sha256: str) -> bool:
        """Whether this content was looked at before."""
        return self.base.execute("SELECT 1 FROM images WHERE sha256 = ?", (sha256,)).fetchone() is not None

    def add_image(
        self,
        sha256: str,
        name: str,
        verdict: str,
        prompts: str = "",
        score: float | None = None,
        told: str = "",
        whole: np.ndarray | None = None,
    ) -> bool:
        """Count an image; False where its content was counted before."""
        blob = None if whole is None else pack(whole)
        done = self.base.execute(
            "INSERT OR IGNORE INTO images (sha256, name, prompts, score, verdict, told, whole) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (sha256, name, prompts, score, verdict, told, blob),
        )
        return done.rowcount == 1

    def counts(self) -> dict[str, int]:
        """Images by verdict; sorted."""
        rows = self.base.execute("SELECT verdict, COUNT(*) FROM images GROUP BY verdict ORDER BY verdict")
        return dict(rows.fetchall())

    def newest_good(self, prompts: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores [n] and image features [n, D] of the newest good images under one prompt set; older features go."""
        rows = self.base.execute(
            "SELECT number, score, whole FROM images WHERE prompts = ? AND verdict = ? AND whole IS NOT NULL "
            "ORDER BY number DESC LIMIT ?",
            (prompts, GOOD, most),
        ).fetchall()
        if len(rows) == most:
            self.base.execute(
                "UPDATE images SET whole = NULL WHERE verdict = ? AND whole IS NOT NULL AND number < ?",
                (GOOD, rows[-1][0]),
            )
        scores = np.array([score for _, score, _ in rows], dtype=np.float64)
        return scores, unpack([blob for *_, blob in rows])

    # --- crops and items ------------------------------------------------------------------------------------
    def add_crop(self, crop: Crop, fingerprint: str) -> None:
        box = ",".join(map(str, crop.box))
        self.base.execute(
            "INSERT OR IGNORE INTO crops SELECT ?, number, ?, ?, ?, ?, NULL FROM images WHERE sha256 = ?",
            (crop.sha256, fingerprint, box, pack(crop.vector), crop.file, crop.sha256),
        )

    def crops(self, fingerprint: str | None = None, item: int | None = None) -> list[Crop]:
        """Crops in the order they came; of one backbone (fingerprint) or of one item, where given."""
        where, given = ["1"], []
        for column, value in (("fingerprint", fingerprint), ("item", item)):
            if value is not None:
                where.append(f"c.{column} = ?")
                given.append(value)
        rows = self.base.execute(
            "SELECT c.sha256, i.name, i.score, c.box, c.vector, c.file, c.item FROM crops c "
            f"JOIN images i USING (sha256) WHERE {' AND '.join(where)} ORDER BY c.number",
            given,
        )
        found = []
        for sha256, name, score, box, vector, file, of in rows:
            left, upper, right, lower = map(int, box.split(","))
            place = (left, upper, right, lower)
            found.append(Crop(sha256, name, score, place, unpack([vector])[0], file, of))
        return found

    def put(self, crops: Iterable[str], item: int) -> None:
        """Give crops (by their image's sha256) to an item."""
        self.base.executemany("UPDATE crops SET item = ? WHERE sha256 = ?", [(item, sha) for sha in crops])

    def items(self) -> list[Item]:
        """All items, oldest first."""
        return [Item(*row) for row in self.base.execute("SELECT * FROM items ORDER BY number")]

    def add_item(self, name: str, words: str, stability: float) -> int:
        """Open an item; its number."""
        seen = sum(self.counts().values())
        row = self.base.execute(
            "INSERT INTO items (status, name, words, place, opened_after, stability) VALUES (?, ?, ?, '', ?, ?)",
            (OPEN, name, words, seen, stability),
        )
        return int(row.lastrowid or 0)

    def decide(self, number: int, status: str, name: str, words: str, place: str) -> None:
        self.base.execute(
            "UPDATE items SET status = ?, name = ?, words = ?, place = ? WHERE number = ?",
            (status, name, words, place, number),
        )

    def prune(self, keep: int) -> None:
        """Forget the oldest crops that no item has, beyond `keep`; then their files, which nobody names any more."""
        self.base.execute(
            "DELETE FROM crops WHERE item IS NULL AND sha256 NOT IN "
            "(SELECT sha256 FROM crops WHERE item IS NULL ORDER BY number DESC LIMIT ?)",
            (keep,),
        )
        named = {file for (file,) in self.base.execute("SELECT file FROM crops")}
        for path in self.images_folder.glob("*") if self.images_folder.is_dir() else ():
            if path.name not in named:
                path.unlink(missing_ok=True)

    # --- labelled images under a prompt set -------------------------------------------------------------------
    def known(self, prompts: str, crop: float) -> dict[str, tuple[float, np.ndarray, np.ndarray]]:
        """{sha256: (score, crop's feature [D], image's feature [D])} of labelled images."""
        rows = self.base.execute(
            "SELECT sha256, score, vector, whole FROM known WHERE prompts = ? AND crop = ?", (prompts, crop)
        )
        return {sha: (score, unpack([vector])[0], unpack([whole])[0]) for sha, score, vector, whole in rows}

    def add_known(
        self, sha256: str, prompts: str, crop: float, score: float, vector: np.ndarray, whole: np.ndarray
    ) -> None:
        self.base.execute(
            "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)",
            (sha256, prompts, crop, score, pack(vector), pack(whole)),
        )

    def drop_known(self, prompts: str) -> None:
        """Forget labelled images under all prompt sets but this one."""
        self.base.execute("DELETE FROM known WHERE prompts != ?", (prompts,))


def pack(vector: np.ndarray) -> bytes:
    """A vector as little-endian float32."""
    return np.asarray(vector, dtype="<f4").tobytes()


def unpack(blobs: list[bytes]) -> np.ndarray:
    """`pack` taken back: [n, D] float32; [0, 0] for none."""
    return (
        np.stack([np.frombuffer(blob, dtype="<f4") for blob in blobs])
        if blobs
        else np.zeros((0, 0), np.float32)
    )
