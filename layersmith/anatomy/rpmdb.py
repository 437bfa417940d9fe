"""The packages of an rpm database. In: the bytes of its file. Out: names, versions, architectures.

There are three kinds, by rpm's age and maker: ``rpmdb.sqlite``, whose table Packages has the headers, ``Packages`` (see
`rpm_hash`) and ``Packages.db`` (see `rpm_ndb`). A header is as rpm's lib/header.c describes it: two counts (of entries, of
bytes of data), then the entries (tag, type, offset, count), then the data, all integers big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from layersmith.anatomy import rpm_hash, rpm_ndb

NAME, VERSION, RELEASE, EPOCH, ARCH = 1000, 1001, 1002, 1003, 1022
MOST_PACKAGES = 100_000
MOST_WORK = 50_000_000
"""Instructions of SQLite's virtual machine."""
_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")
_INT32, _STRING, _I18NSTRING = 4, 6, 9


def rpm_packages(data: bytes) -> Iterator[tuple[str, str, str]]:
    """(name, version as ``epoch:version-release``, architecture) of each package. Raises ValueError on what is no database."""
    for blob in islice(_headers(data), MOST_PACKAGES):
        tags = _tags(blob)
        name, version, release = tags.get(NAME), tags.get(VERSION), tags.get(RELEASE)
        if name and version and name != "gpg-pubkey":
            epoch = f"{tags[EPOCH]}:" if tags.get(EPOCH) else ""
            yield name, f"{epoch}{version}-{release}" if release else f"{epoch}{version}", tags.get(ARCH, "")


def _headers(data: bytes) -> Iterable[bytes]:
    if rpm_hash.is_hash(data):
        return rpm_hash.values(data)
    return rpm_ndb.values(data) if rpm_ndb.is_ndb(data) else _rows(data)


def _rows(data: bytes) -> list[bytes]:
    """Read in memory: SQLite gets no file to write to, and a bound on what a view in it may compute."""
    import sqlite3

    if data[:16] != b"SQLite format 3\0" or len(data) < 512:
        raise ValueError("not an SQLite database")
    # Write-ahead logging needs a second file: without one, the database says so in bytes 18 and 19 (fileformat2, 1.3).
    plain = data[:18] + b"\1\1" + data[20:]
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(plain)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.set_progress_handler(lambda: 1, MOST_WORK)
        rows = connection.execute("SELECT blob FROM Packages WHERE typeof(blob) = 'blob'").fetchmany(
            MOST_PACKAGES
        )
        return [bytes(blob) for (blob,) in rows]
    except sqlite3.Error as error:
        raise ValueError(f"not an rpm database: {error}") from error
    finally:
        connection.close()


def _tags(blob: bytes) -> dict[int, str]:
    if len(blob) < _COUNTS.size:
        return {}
    entries, _ = _COUNTS.unpack_from(blob)
    data_at = _COUNTS.size + entries * _ENTRY.size
    if data_at > len(blob):
        return {}
    found = {}
    for number in range(entries):
        tag, kind, offset, _ = _ENTRY.unpack_from(blob, _COUNTS.size + number * _ENTRY.size)
        at = data_at + offset
        if tag not in (NAME, VERSION, RELEASE, EPOCH, ARCH) or at >= len(blob):
            continue
        if kind in (_STRING, _I18NSTRING):
            end = blob.find(b"\0", at)
            found[tag] = blob[at : end if end >= 0 else None].decode("utf-8", "replace")
        elif kind == _INT32 and at + 4 <= len(blob):
            found[tag] = str(int.from_bytes(blob[at : at + 4], "big"))
    return found
