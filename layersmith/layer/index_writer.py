"""Entries to the file index of their layer, in one go. In: entries as `Placement.place` gives them. Out: the index file."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.errors import HostileInputError
from layersmith.layer.entry import CHR, DIR, LNK, OPAQUE_WHITEOUT, REG, WHITEOUT_PREFIX, Entry
from layersmith.layer.index import ELSEWHERE, HEADER, MAGIC, RECORD, WHT, XATTR, find, key_at
from layersmith.layer.place import BOTH, shown
from layersmith.store.files import write_all

if TYPE_CHECKING:
    from layersmith.layer.place import Placement
    from layersmith.layer.view import View
    from layersmith.store import Store

_AT_ONCE = 2048
"""Records written with one call."""


class IndexWriter:
    """Collects the entries of one tar in their order, and writes the index when all have come.

    ``add`` takes entries as `Placement.place` gives them; a path that comes twice counts as its last entry.
    """

    def __init__(self, temporary: Path, boot: str) -> None:
        self._path = temporary
        self._boot = boot
        self._file = temporary.open("w+b", buffering=0)
        self._file.write(bytes(HEADER.size))
        self._position = HEADER.size
        self._checksum = 0
        self._waiting: list[bytes] = []
        self._offsets = array("Q")
        self._last = b""
        self._sorted = True
        self._opaque: set[bytes] = set()
        self._links: dict[bytes, bytes] = {}

    def add(self, entry: Entry, offset: int = 0, *, sparse: bool = False) -> None:
        """Take one entry; ``offset`` is where its content begins in the tar, ``sparse`` that it is in parts there."""
        path, kind, mode, uid, gid, mtime, size, link, major, minor, xattrs = entry
        name = path[path.rfind(b"/") + 1 :]
        if name.startswith(WHITEOUT_PREFIX):
            parent = path[: -len(name) - 1]
            if name == OPAQUE_WHITEOUT:
                self._opaque.add(parent)
                return
            kind = WHT
            path = parent + b"/" + name[4:] if parent else name[4:]
        elif kind == LNK:
            # A link to a link is a link to what that one is a name of.
            link = self._links.get(link, link)
            self._links[path] = link
        elif kind == CHR and not major and not minor:
            kind = WHT  # to overlayfs, which this layer will be a lowerdir of, that is what it is
        key = path.replace(b"/", b"\0")
        extra = b"".join([XATTR.pack(len(n), len(v)) + n + v for n, v in xattrs]) if xattrs else b""
        record = RECORD.pack(
            kind, sparse, mode, uid, gid, mtime, size, offset, major, minor, len(key), len(link), len(extra)
        )
        if key <= self._last and self._offsets:
            self._sorted = False
        self._last = key
        self._offsets.append(self._position)
        self._write(record + key + link + extra if link or extra else record + key)

    def finish(self, target: Path, placement: Placement) -> None:
        """Write the rest, and put the index at ``target``; ``placement`` is what placed the entries.

        Raises HostileInputError where an entry lies below one that is not a directory, or a hard link names no file.
        """
        self._flush()
        external = list(placement.external)
        if not self._sorted or external:
            self._sort()
        missing = self._missing_targets()
        external += missing
        if missing and placement.below is not None:
            # As in an overlay: a lower layer's file is copied up before it gets another name.
            for path in missing:
                self.add(linked_below(placement.below, path), ELSEWHERE)
            self._flush()
            self._sort()
        offsets_at = self._position
        self._write(self._offsets.tobytes())
        lists_at = self._position
        self._write(_pack_list(sorted(self._opaque)) + _pack_list(external))
        self._flush()
        boot = self._boot.encode().ljust(36)
        header = HEADER.pack(MAGIC, boot, self._checksum, len(self._offsets), offsets_at, lists_at)
        os.pwrite(self._file.fileno(), header, 0)
        self._file.close()
        self._path.rename(target)

    def abort(self) -> None:
        """Throw away what was written, if it was not finished."""
        if not self._file.closed:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._position += len(data)
        if len(self._waiting) == _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._checksum = zlib.crc32(data, self._checksum)
        write_all(self._file.fileno(), data)

    def _sort(self) -> None:
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            kept = array("Q")
            last_key, last_kind = b"\0", DIR
            # Python's sort is stable: of the same key, what came last is last.
            for key, at in sorted((key_at(view, at), at) for at in self._offsets):
                kind = view[at : at + 1]
                if key == last_key:
                    if WHT in (kind, last_kind):
                        # A whiteout concerns the layers below; a directory that comes with it is a new one.
                        path = key.replace(b"\0", b"/")
                        if DIR in (kind, last_kind):
                            self._opaque.add(path)
                        if kind == WHT:
                            continue
                    elif DIR in (kind, last_kind) and kind != last_kind:
                        path = key.replace(b"\0", b"/")
                        raise HostileInputError(f"{shown(path)}: {BOTH}")
                    kept.pop()
                elif last_kind not in (DIR, WHT) and key.startswith(last_key + b"\0"):
                    path = key.replace(b"\0", b"/")
                    raise HostileInputError(f"{shown(path)} lies below something that is not a directory")
                last_key, last_kind = key, kind
                kept.append(at)
            self._offsets = kept

    def _missing_targets(self) -> list[bytes]:
        if not self._links:
            return []
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            wanted = dict.fromkeys(self._links.values())
            return [path for path in wanted if find(view, self._offsets, path.replace(b"/", b"\0")) is None]


def linked_below(below: View, path: bytes) -> Entry:
    """The regular file of a lower layer that a hard link names. Raises HostileInputError if it is none."""
    found = below.lookup(path)
    if found is None or found.kind != REG:
        raise HostileInputError(f"a hard link to {shown(path)}, which is not a regular file")
    return found._replace(link=b"")


def index_writer(store: Store) -> IndexWriter:
    """A new index, unfinished."""
    return IndexWriter(store.session.new_path("index"), store.snapshots.boot)


def _pack_list(items: list[bytes]) -> bytes:
    return struct.pack("<I", len(items)) + b"".join([struct.pack("<I", len(item)) + item for item in items])
