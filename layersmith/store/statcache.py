"""`StatCache`: what a file's stat was when its content was hashed, so that it need not be read again.

In and out: the whole table of one directory, since a scan asks for most of it anyway.

ctime and inode are compared beside size and mtime, so an edit that restores both is still seen. One more trap: the
kernel's file times advance by ticks, so a file that is edited twice within one looks unchanged the second time.
Therefore a file whose ctime is within `RACY_NS` of the moment of its hashing is not remembered (git calls it racy).
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from layersmith.store.database import Database

RACY_NS = 2_000_000_000
"""FAT and some network file systems tick every 2 s; Linux's own every 1 to 10 ms."""

_FORMAT = b"LSSTAT1\0"
_ROW = struct.Struct("<QQqq32s")


class Stat(NamedTuple):
    """What must be unchanged for ``sha256`` (32 raw bytes) still to be the digest of a file's content."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: bytes


class StatCache:
    """The stat cache of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, root: bytes) -> dict[bytes, Stat]:
        """What is remembered of the files below the directory ``root``, by relative path. Empty if damaged."""
        rows = self._database.execute("SELECT data FROM statcache WHERE root = ?", (root,))
        if not rows:
            return {}
        self._database.defer("UPDATE statcache SET used = ? WHERE root = ?", time.time(), root)
        return _decoded(rows[0][0])

    def save(self, root: bytes, files: Mapping[bytes, Stat], *, started_ns: int) -> None:
        """Remember ``files`` of ``root`` in place of what was. ``started_ns``: the wall clock before the first hash."""
        latest = started_ns - RACY_NS
        lasting = {path: stat for path, stat in files.items() if stat.ctime_ns < latest}
        self._database.execute(
            "INSERT OR REPLACE INTO statcache(root, used, data) VALUES (?, ?, ?)",
            (root, time.time(), _encoded(lasting)),
        )


def _encoded(files: Mapping[bytes, Stat]) -> bytes:
    rows = b"".join(_ROW.pack(*stat) for stat in files.values())
    body = struct.pack("<Q", len(files)) + rows + b"\0".join(files)
    return _FORMAT + struct.pack("<I", zlib.crc32(body)) + body


def _decoded(data: bytes) -> dict[bytes, Stat]:
    start = len(_FORMAT) + 4
    body = memoryview(data)[start:]
    if data[: len(_FORMAT)] != _FORMAT or zlib.crc32(body) != int.from_bytes(
        data[len(_FORMAT) : start], "little"
    ):
        return {}
    count = int.from_bytes(body[:8], "little")
    end = 8 + count * _ROW.size
    if count == 0:
        return {}
    paths = bytes(body[end:]).split(b"\0")
    return dict(zip(paths, map(Stat._make, _ROW.iter_unpack(body[8:end])), strict=True))
