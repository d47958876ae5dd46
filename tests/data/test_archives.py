"""Archives of strangers: what is unpacked, and everything that is refused."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flawline.data import archives
from flawline.data.archives import Caps, archive_stem, is_archive_name, safe_parts, unpack
from flawline.errors import FlawlineError

FILES = {"good/0.png": b"zero", "good/1.png": os.urandom(3000), "bad name/ä.png": b"three"}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], *special: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in special:
            archive.addfile(info)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, clause: str, caps: Caps = archives.DEFAULT_CAPS) -> None:
    folder = archive.parent / "out"
    folder.mkdir()
    with pytest.raises(FlawlineError, match=clause) as error:
        unpack(archive, folder, caps)
    assert archive.name in str(error.value) and "\n" not in str(error.value) and error.value.remedy
    outside = [p for p in archive.parent.rglob("*") if p.is_file() and not p.is_relative_to(folder)]
    assert outside == [archive]
    assert not any(p.is_symlink() for p in folder.rglob("*"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2", "A.ZIP"])
def test_every_kind_unpacks(tmp_path: Path, name: str) -> None:
    make: Callable[..., Path] = zipped if name.lower().endswith("zip") else tarred
    archive = make(tmp_path / name, FILES)
    before = archive.read_bytes()
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert archive.read_bytes() == before and is_archive_name(name)


def test_folders_and_dots_in_names(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("./set")
    folder.type = tarfile.DIRTYPE
    archive = tarred(tmp_path / "a.tar", {"./set/0.png": b"0"}, folder)
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {"set/0.png": b"0"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "C:/evil",
        "a\\..\\evil",
        "a//b",
        "a\nb",
        "x/" * 40 + "y",
        "n" * 300,
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(FlawlineError, match=r"set\.zip: the name "):
        safe_parts(name, "set.zip")
    refused(tarred(tmp_path / "a.tar", {"good/0.png": b"0", name: b"evil"}), "the name ")


def test_names_in_zips(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.zip", {"../evil": b"x"}), r"holds '\.\.'")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_tars_of_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("good/link.png")
    info.type, info.linkname = kind, "/etc/passwd"
    refused(tarred(tmp_path / "a.tar.gz", {"good/0.png": b"0"}, info), "is a link, a device or a sparse file")


def test_a_link_cannot_lead_a_later_file_out(tmp_path: Path) -> None:
    link = tarfile.TarInfo("good")
    link.type, link.linkname = tarfile.SYMTYPE, "../.."
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(link)
        info = tarfile.TarInfo("good/evil")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    refused(tmp_path / "a.tar", "is a link")


def test_zips_of_links(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", "is a link")


def test_encrypted_zip(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"0.png": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    archive.write_bytes(content)
    refused(archive, "0.png is encrypted")


def test_caps_on_count_and_size(tmp_path: Path) -> None:
    many = {f"{i}.png": b"x" for i in range(11)}
    refused(zipped(tmp_path / "a.zip", many), "more than 10 entries", Caps(files=10))
    for number, make in enumerate((zipped, tarred)):
        folder = tmp_path / str(number)
        folder.mkdir()
        archive = make(folder / f"a.{'tar' if number else 'zip'}", {"a": bytes(600), "b": bytes(600)})
        refused(archive, "more than 1,000 bytes", Caps(total=1000))
    (tmp_path / "t").mkdir()
    refused(tarred(tmp_path / "t" / "a.tar", many), "more than 10 entries", Caps(files=10))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.xz"])
def test_decompression_bomb(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1 << 20)
    make: Callable[..., Path] = zipped if name.endswith("zip") else tarred
    archive = make(tmp_path / name, {"a.bmp": bytes(5 << 20)})
    refused(archive, "100 times its own size: a decompression bomb")
    written = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written < 3 << 20  # stopped on the way, not after it


def test_a_zip_that_lies_about_its_size(tmp_path: Path) -> None:
    """The central directory says 10 bytes; what is really there is counted while it is read."""
    archive = zipped(tmp_path / "a.zip", {"a.bmp": bytes(1 << 20)})
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    refused(archive, "damaged|bytes", Caps(total=1000))
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 1000


def test_sparse_tar_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.bmp")
    info.type = tarfile.GNUTYPE_SPARSE
    info.size = 0
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[483:495] = b"777777777777"[:12]  # the real size it claims
    buffer[148:156] = b"        "
    buffer[148:156] = f"{sum(buffer[:512]):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(buffer) + bytes(1024))
    refused(tmp_path / "a.tar", "sparse file")


def test_the_same_name_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", b"1")
        archive.writestr("0.png", b"2")
    refused(tmp_path / "a.zip", "holds 0.png twice")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_damaged_archives(tmp_path: Path, name: str) -> None:
    make: Callable[..., Path] = zipped if name.endswith("zip") else tarred
    archive = make(tmp_path / name, {"a": os.urandom(50_000), "b": os.urandom(50_000)})
    archive.write_bytes(archive.read_bytes()[:60_000])
    refused(archive, "damaged or no archive")
    archive.write_bytes(b"hello")
    (tmp_path / "out2").mkdir()
    with pytest.raises(FlawlineError, match="damaged or no archive"):
        unpack(archive, tmp_path / "out2")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    refused(tarred(tmp_path / "a.tar", {"good": b"x", "good/0.png": b"0"}), "cannot unpack|twice")


def test_names_without_suffix() -> None:
    assert archive_stem("Teile 3.tar.gz") == "Teile 3" and archive_stem(".zip") == "archive"
    assert archive_stem("a.b.TGZ") == "a.b" and not is_archive_name("a.rar")
