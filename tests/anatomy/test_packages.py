"""Packages as their managers note them; and what hostile or broken notes do."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import pytest

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


def rpm_database(path: Path, *packages: dict[int, str | int]) -> bytes:
    """As rpm writes it: headers in rows, write-ahead logging."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    for tags in packages:
        entries, data = b"", b""
        for tag, value in sorted(tags.items()):
            if isinstance(value, int):
                data += b"\0" * (-len(data) % 4)
                entries += struct.pack(">IIII", tag, 4, len(data), 1)
                data += struct.pack(">I", value)
            else:
                entries += struct.pack(">IIII", tag, 6, len(data), 1)
                data += value.encode() + b"\0"
        blob = struct.pack(">II", len(tags), len(data)) + entries + data
        connection.execute("INSERT INTO Packages(blob) VALUES (?)", (blob,))
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
