"""Packages as their managers note them; and what hostile or broken notes do."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersmith.anatomy import rpm_hash
from layersmith.anatomy.packages import PackageChange, package_changes
from layersmith.anatomy.rpmdb import rpm_packages
from layersmith.layer.compress import parse_compression
from layersmith.layer.entry import REG, Entry
from layersmith.layer.pack import pack
from layersmith.oci.descriptor import Layer
from layersmith.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def layer(store: Store, files: dict[str, bytes]) -> Layer:
    items = [(Entry(path.encode(), REG, 0o644, size=len(data)), data) for path, data in sorted(files.items())]
    return pack(store, items, compression=parse_compression("none")).layer


def changes(store: Store, old: dict[str, bytes], new: dict[str, bytes]) -> list[PackageChange]:
    return package_changes(store, [layer(store, old)], [layer(store, new)])


def test_dpkg(store: Store) -> None:
    """Added, removed, another version; what is merely configured is no package; several architectures are."""
    old = (
        b"Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDescription: x\n Version: no\n\n"
        b"Package: b\nStatus: install ok installed\nVersion: 1\n\n"
        b"Package: c\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    )
    new = (
        b"Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n"
        b"Package: a\nStatus: install ok installed\nArchitecture: i386\nVersion: 2\n\n"
    )
    found = changes(store, {"var/lib/dpkg/status": old}, {"var/lib/dpkg/status": new})
    assert [(c.kind, c.name, c.before, c.after) for c in found] == [
        ("C", "a", "1", "2"), ("A", "a", "", "2"), ("D", "b", "1", "")
    ]  # fmt: skip


def test_distroless_and_apk(store: Store) -> None:
    """status.d has a file for each package; apk writes letters."""
    new = {
        "var/lib/dpkg/status.d/base": b"Package: base\nVersion: 12\n",
        "var/lib/dpkg/status.d/base.md5sums": b"Package: no\nVersion: 1\n",
        "lib/apk/db/installed": b"C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1.3\n\n",
    }
    found = changes(store, {}, new)
    assert [(c.manager, c.name, c.after) for c in found] == [
        ("apk", "musl", "1.2.5-r0"), ("apk", "zlib", "1.3"), ("dpkg", "base", "12")
    ]  # fmt: skip


def test_pip_and_npm(store: Store) -> None:
    """By the directory they are in: the same package may be there twice. A package.json of no module is none."""
    site = "usr/lib/python3/dist-packages/"
    old = {f"{site}flask-1.dist-info/METADATA": b"Name: Flask\nVersion: 1.0\n\nVersion: no\n"}
    new = {
        f"{site}flask-2.dist-info/METADATA": b"Name: Flask\nVersion: 2.0\n",
        "app/node_modules/left-pad/package.json": b'{"name": "left-pad", "version": "1.3.0"}',
        "app/node_modules/@x/y/package.json": b'{"name": "@x/y", "version": "1.0.0"}',
        "app/node_modules/left-pad/test/package.json": b'{"name": "no", "version": "1"}',
        "app/package.json": b'{"name": "app", "version": "1"}',
        "app/node_modules/broken/package.json": b'{"name": ',
        "app/node_modules/deep/package.json": b"[" * 100_000,
    }
    found = changes(store, old, new)
    assert [(c.kind, c.manager, c.name, c.before, c.after, c.place) for c in found] == [
        ("A", "npm", "@x/y", "", "1.0.0", "app/node_modules/@x"),
        ("A", "npm", "left-pad", "", "1.3.0", "app/node_modules"),
        ("C", "pip", "Flask", "1.0", "2.0", site.rstrip("/")),
    ]


def header(tags: dict[int, str | int]) -> bytes:
    """As lib/header.c describes it."""
    entries, data = b"", b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
            entries += struct.pack(">IIII", tag, 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            entries += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(tags), len(data)) + entries + data


def rpm_database(path: Path, *packages: dict[int, str | int]) -> bytes:
    """As rpm writes it: headers in rows, write-ahead logging."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    for tags in packages:
        connection.execute("INSERT INTO Packages(blob) VALUES (?)", (header(tags),))
    connection.commit()
    connection.close()
    return path.read_bytes()


def test_rpm(store: Store, tmp_path: Path) -> None:
    """Epoch, version, release; keys are no packages."""
    data = rpm_database(
        tmp_path / "db",
        {1000: "bash", 1001: "5.2", 1002: "1.fc40", 1022: "x86_64"},
        {1000: "vim", 1001: "9", 1002: "2", 1003: 2, 1022: "x86_64"},
        {1000: "gpg-pubkey", 1001: "1", 1002: "1"},
    )
    assert list(rpm_packages(data)) == [("bash", "5.2-1.fc40", "x86_64"), ("vim", "2:9-2", "x86_64")]
    found = changes(store, {}, {"usr/lib/sysimage/rpm/rpmdb.sqlite": data})
    assert [(c.manager, c.name) for c in found] == [("rpm", "bash"), ("rpm", "vim")]


@pytest.mark.parametrize("cut", [0, 100, 600, 4096, 5000])
def test_a_broken_rpm_database_has_no_packages(cut: int, store: Store, tmp_path: Path) -> None:
    """And stops nothing: the other managers' packages are still told."""
    data = rpm_database(tmp_path / "db", {1000: "bash", 1001: "5"})[:cut]
    new = {"var/lib/rpm/rpmdb.sqlite": data, "lib/apk/db/installed": b"P:a\nV:1\n"}
    assert [(c.manager, c.name) for c in changes(store, {}, new)] == [("apk", "a")]


def test_a_hostile_rpm_database_is_bounded(tmp_path: Path) -> None:
    """A view can compute for ever; a header can count to four billion."""
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n)"
        " SELECT x'00' AS blob FROM n WHERE i < 0"
    )
    connection.close()
    with pytest.raises(ValueError, match="interrupted"):
        list(rpm_packages(path.read_bytes()))
    assert list(rpm_packages(rpm_database(tmp_path / "x", {1000: "a"}))) == []
    blob = struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF) + b"\0" * 64
    connection = sqlite3.connect(tmp_path / "y")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.execute("INSERT INTO Packages(blob) VALUES (?)", (blob,))
    connection.commit()
    connection.close()
    assert list(rpm_packages((tmp_path / "y").read_bytes())) == []


SPEC = """\
Name: {name}
Version: {version}
Release: 1
Epoch: {epoch}
Summary: a package
License: none
BuildArch: noarch
%description
{text}
%files
"""


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Packages that rpmbuild made, one of them with a header of several pages."""
    if not shutil.which("rpmbuild"):
        pytest.skip("needs rpmbuild, which is not installed")
    top = tmp_path_factory.mktemp("rpm")
    for name, version, epoch, text in (("small", "1.0", 0, "small"), ("large", "2.5", 3, "words " * 9000)):
        spec = top / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, epoch=epoch, text=text))
        command = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}", spec]
        subprocess.run(command, check=True, capture_output=True)
    return sorted((top / "RPMS").rglob("*.rpm"))


def rpm(directory: Path, backend: str, *words: object) -> str:
    command = ["rpm", "--dbpath", directory, "--define", f"_db_backend {backend}", *words]
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


QUERY = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\\n"


@pytest.mark.interop
def test_what_rpm_itself_has_written(rpms: list[Path], store: Store, tmp_path: Path) -> None:
    """The database that it writes today; one package was removed again."""
    rpm(tmp_path, "sqlite", "--initdb")
    for package in rpms:
        rpm(tmp_path, "sqlite", "-i", "--justdb", "--nodeps", package)
    found = list(rpm_packages((tmp_path / "rpmdb.sqlite").read_bytes()))
    assert sorted(" ".join(each) for each in found) == sorted(
        rpm(tmp_path, "sqlite", "-qa", "--qf", QUERY).splitlines()
    )
    rpm(tmp_path, "sqlite", "-e", "--justdb", "small")
    data = (tmp_path / "rpmdb.sqlite").read_bytes()
    assert list(rpm_packages(data)) == [("large", "3:2.5-1", "noarch")]
    assert [c.name for c in changes(store, {}, {"usr/lib/sysimage/rpm/rpmdb.sqlite": data})] == ["large"]


@pytest.mark.interop
@pytest.mark.parametrize("order", ["4321", "1234"])
def test_a_berkeley_database(order: str, rpms: list[Path], store: Store, tmp_path: Path) -> None:
    """Berkeley DB's own tool writes what rpm no longer does, rpm reads it as we do; in the byte order of any machine."""
    if not shutil.which("db_load"):
        pytest.skip("needs db_load, which is not installed")
    rpm(tmp_path, "sqlite", "--initdb")
    for package in rpms:
        rpm(tmp_path, "sqlite", "-i", "--justdb", "--nodeps", package)
    with sqlite3.connect(tmp_path / "rpmdb.sqlite") as connection:
        rows = connection.execute("SELECT hnum, blob FROM Packages").fetchall()
    form = "<I" if order == "1234" else ">I"
    pairs = [(0, struct.pack(form, len(rows))), *rows]
    lines = [f" {part.hex()}" for number, blob in pairs for part in (struct.pack(form, number), blob)]
    head = ["VERSION=3", "format=bytevalue", "type=hash", f"db_lorder={order}", "HEADER=END"]
    path = tmp_path / "old" / "Packages"
    path.parent.mkdir()
    text = "\n".join([*head, *lines, "DATA=END", ""])
    subprocess.run(["db_load", path], input=text, text=True, check=True)
    found = sorted(rpm_packages(path.read_bytes()))
    assert found == [("large", "3:2.5-1", "noarch"), ("small", "0:1.0-1", "noarch")]
    if order == "1234":
        asked = rpm(path.parent, "bdb_ro", "-qa", "--qf", QUERY).splitlines()
        assert sorted(asked) == [" ".join(each) for each in found]
    assert [c.name for c in changes(store, {}, {"var/lib/rpm/Packages": path.read_bytes()})] == [
        "large",
        "small",
    ]


def hash_file(*pages: bytes) -> bytes:
    """Pages of 512 bytes after a metadata page."""
    meta = struct.pack("<8xIIIIBB", 0, rpm_hash.MAGIC, 9, 512, 0, 8)
    return b"".join(page.ljust(512, b"\0") for page in (meta, *pages))


def hash_page(item: bytes) -> bytes:
    """One with a key, and a value's ``item`` below it."""
    end = 512 - 5
    head = struct.pack("<8xIIIHHBBHH", 1, 0, 0, 2, 0, 1, 13, end, end - len(item))
    return head.ljust(end - len(item), b"\0") + item + b"\1keys"


def ndb_file(*slots: tuple[bytes, int, int, int], blob: bytes = b"") -> bytes:
    entries = b"".join(struct.pack("<4sIII", *slot) for slot in slots)
    return (struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, 2) + entries).ljust(4096, b"\0") + blob


def test_a_package_file_of_ndb(store: Store) -> None:
    """As rpm's rpmpkg.c lays it out; no rpm that can write one is at hand."""
    blob = header({1000: "bash", 1001: "5.2", 1002: "1", 1022: "x86_64"})
    blocks = (16 + len(blob) + 12 + 15) // 16
    data = struct.pack("<4sIII", b"BlbS", 7, 1, len(blob)) + blob
    file = ndb_file((b"Slot", 0, 0, 0), (b"Slot", 7, 256, blocks), blob=data.ljust(16 * blocks, b"\0"))
    free = b"".join(struct.pack("<4sIII", b"Slot", 0, 0, 0) for _ in range((4096 - 64) // 16))
    file = file[:64] + free + file[4096:]
    assert list(rpm_packages(file)) == [("bash", "5.2-1", "x86_64")]
    assert [c.name for c in changes(store, {}, {"usr/lib/sysimage/rpm/Packages.db": file})] == ["bash"]


OVERFLOW = struct.pack("<8xIIIHHBB", 2, 0, 2, 0, 400, 0, 7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (hash_file()[:600].replace(b"\0\2\0\0", b"\1\2\0\0"), "not a hash"),
        (hash_file(hash_page(struct.pack("<BxxxII", 3, 2, 10**9)), OVERFLOW), "no end"),
        (hash_file(hash_page(struct.pack("<BxxxII", 3, 9, 10))), "no page 9"),
        (hash_file(struct.pack("<8xIIIHHBBHH", 1, 0, 0, 2, 0, 1, 13, 20, 600)), "outside of its page"),
        (hash_file(struct.pack("<8xIIIHHBB", 1, 0, 0, 65535, 0, 1, 13)), "cut short"),
        (hash_file()[:20], "cut short"),
        (ndb_file()[:20], "cut short"),
        (ndb_file((b"Slop", 1, 256, 1)), "a slot that is none"),
        (ndb_file((b"Slot", 1, 9999, 1)), "outside of the file"),
        (ndb_file((b"Slot", 1, 256, 1), blob=struct.pack("<4sIII", b"BlbS", 1, 1, 10**9)), "that is none"),
    ],
)
def test_a_damaged_old_rpm_database_is_refused(data: bytes, message: str) -> None:
    """No loop, no read outside of it, no memory beyond its size."""
    with pytest.raises(ValueError, match=message):
        list(rpm_packages(data))


@given(st.binary(max_size=200), st.integers(0, 4000), st.booleans())
def test_no_damage_gets_further(noise: bytes, at: int, ndb: bool) -> None:
    """Whatever is written over it, there are packages or a ValueError."""
    data = bytearray(
        ndb_file((b"Slot", 1, 256, 4), blob=struct.pack("<4sIII", b"BlbS", 1, 1, 40) + bytes(48))
        if ndb
        else hash_file(hash_page(struct.pack("<BxxxII", 3, 2, 300)), OVERFLOW.replace(b"\2", b"\0", 2), b"")
    )
    data[at : at + len(noise)] = noise
    with suppress(ValueError):
        list(rpm_packages(bytes(data)))
