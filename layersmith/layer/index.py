"""The file index of a layer: what is in it, without its blob. In: entries. Out: ``layers/<DiffID>.index``.

    magic and header | records in the order of the tar | offsets of the records, sorted | opaque, external paths

Records are sorted by path with ``/`` taken as NUL: a lookup is a binary search in the mapped file, and all that is
below a directory one range of it. The file can always be made again from the blob, so it is not synced: the header
says in which boot it was written, and after another one a checksum tells whether it is whole.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from layersmith.errors import StoreError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Entry

if TYPE_CHECKING:
    from layersmith.store import Store

WHT = b"w"
"""`Entry.kind` of a whiteout in an index, where its path is that of the file which it removes."""

TYPE_BITS = {
    BLK: stat.S_IFBLK,
    CHR: stat.S_IFCHR,
    DIR: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
    REG: stat.S_IFREG,
    SYM: stat.S_IFLNK,
    WHT: stat.S_IFCHR,
}
"""What each kind is in ``st_mode`` once it is unpacked."""

ELSEWHERE = (1 << 64) - 1
"""The offset of a content that is not in this layer's tar, but in a layer below."""

MAGIC = b"lsindex1"
HEADER = struct.Struct("<8s36sIQQQ")  # magic, boot, checksum of what follows, count, offsets at, lists at
RECORD = struct.Struct("<cBHIIqQQIIHHI")  # kind .. minor, lengths of key, link, xattrs
_MTIME_AT, _SIZE_AT, _OFFSET_AT = (struct.calcsize(f) for f in ("<cBHII", "<cBHIIq", "<cBHIIqQ"))
_KEY_LENGTH_AT = struct.calcsize("<cBHIIqQQII")
_SMALL = 1 << 20
_KEPT = 1 << 16
"""Bytes of the largest index that is kept open, and how many are at most."""
_MOST_KEPT = 512
XATTR = struct.Struct("<HI")


Data = bytes | mmap.mmap


class LayerIndex:
    """An index, mapped into memory; safe to use from several threads. Close it when nobody uses it any more.

    Raises FileNotFoundError if there is none, and StoreError if it is damaged.
    """

    def __init__(self, path: Path, boot: str) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < HEADER.size:
                raise _damaged(path)
            # A mapping costs a descriptor for as long as it lives, and there may be hundreds of layers.
            self._view: Data = (
                file.read() if size <= _SMALL else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )
        magic, written, checksum, count, offsets_at, lists_at = HEADER.unpack_from(self._view)
        if magic != MAGIC or not HEADER.size <= offsets_at <= lists_at <= len(self._view):
            raise _damaged(path)
        if written.decode(errors="replace").rstrip() != boot:
            with memoryview(self._view) as whole, whole[HEADER.size :] as rest:
                intact = zlib.crc32(rest) == checksum
            if not intact:
                raise _damaged(path)
        self._bytes = memoryview(self._view)
        self._offsets = self._bytes[offsets_at:lists_at].cast("Q")
        self._records_end = offsets_at
        if len(self._offsets) != count:
            raise _damaged(path)
        opaque, at = _unpack_list(self._view, lists_at)
        external, _ = _unpack_list(self._view, at)
        self._opaque = frozenset(opaque)
        self.external: tuple[bytes, ...] = tuple(external)
        """Paths that the layers below give a meaning to; empty for a layer that is the same on any base."""

    def get(self, path: bytes) -> Entry | None:
        """The entry at ``path``; a hard link is given as the REG it is a name of, with ``link`` the first name."""
        at = find(self._view, self._offsets, path.replace(b"/", b"\0"))
        return None if at is None else self._entry(at)

    def content(self, path: bytes) -> int | None:
        """Where the content of the REG at ``path`` begins in the tar; None if that is another layer's, or no file."""
        at = find(self._view, self._offsets, path.replace(b"/", b"\0"))
        if at is None:
            return None
        entry, offset, _ = self._read(at)
        if entry.kind == LNK:
            return self.content(entry.link)
        return offset if entry.kind == REG and offset != ELSEWHERE else None

    def sparse(self, path: bytes) -> bool:
        """Whether the content of the REG at ``path`` lies in parts in the tar, without its holes."""
        at = find(self._view, self._offsets, path.replace(b"/", b"\0"))
        if at is None:
            return False
        entry, _, sparse = self._read(at)
        return self.sparse(entry.link) if entry.kind == LNK else sparse

    def opaque(self, path: bytes) -> bool:
        """Whether ``path`` is a directory that hides what the layers below have in it."""
        return path in self._opaque

    def children(self, path: bytes) -> Iterator[Entry]:
        """What lies directly in the directory ``path``, sorted by name; whiteouts included."""
        prefix = path.replace(b"/", b"\0") + b"\0" if path else b""
        number = bisect(self._view, self._offsets, prefix)
        while number < len(self._offsets):
            at = self._offsets[number]
            key = key_at(self._view, at)
            if not key.startswith(prefix):
                return
            if not key:
                number += 1  # the root is not its own child
                continue
            yield self._entry(at)
            # What lies below the child comes right after it: pass over it at once if it is much.
            number += 1
            if number < len(self._offsets) and key_at(self._view, self._offsets[number]).startswith(
                key + b"\0"
            ):
                number = bisect(self._view, self._offsets, key + b"\1")

    def same_but_times(self, other: LayerIndex) -> bool:
        """Whether both are of the same entries in the same order, mtimes (and where the tars have contents) aside."""
        if (
            self._offsets != other._offsets
            or self.external != other.external
            or self._opaque != other._opaque
        ):
            return False
        ours, theirs = self._view, other._view
        for at, end in pairwise((*sorted(self._offsets), self._records_end)):
            mtime, size, offset = at + _MTIME_AT, at + _SIZE_AT, at + _OFFSET_AT
            if (
                ours[at:mtime] != theirs[at:mtime]
                or ours[size:offset] != theirs[size:offset]
                or ours[offset + 8 : end] != theirs[offset + 8 : end]
            ):
                return False
        return True

    def __iter__(self) -> Iterator[Entry]:
        """All entries, parents first."""
        for at in self._offsets:
            yield self._entry(at)

    def stored(self) -> Iterator[tuple[Entry, int, bool]]:
        """All entries, parents first, as the tar has them: hard links as LNK, with where each content begins and
        whether it is in parts there."""
        return map(self._read, self._offsets)

    def stored_at(self, number: int) -> tuple[Entry, int, bool]:
        """What comes as number ``number`` of `stored`, from 0 on."""
        return self._read(self._offsets[number])

    def number(self, path: bytes) -> int | None:
        """Which of `stored` is the one at ``path``; None if there is none."""
        return number_of(self._view, self._offsets, path.replace(b"/", b"\0"))

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        if not isinstance(self._view, bytes):  # a small one is shared: see `open_index`
            self._offsets.release()
            self._bytes.release()
            self._view.close()

    def _entry(self, at: int) -> Entry:
        entry = self._read(at)[0]
        if entry.kind != LNK:
            return entry
        target_at = find(self._view, self._offsets, entry.link.replace(b"/", b"\0"))
        if target_at is None:
            return entry
        target = self._read(target_at)[0]
        return target._replace(path=entry.path, link=target.link if target.kind == SYM else entry.link)

    def _read(self, at: int) -> tuple[Entry, int, bool]:
        view = self._view
        kind, sparse, mode, uid, gid, mtime, size, offset, major, minor, key_len, link_len, extra_len = (
            RECORD.unpack_from(view, at)
        )
        at += RECORD.size
        key_end = at + key_len
        link_end = key_end + link_len
        path = view[at:key_end].replace(b"\0", b"/")
        link = view[key_end:link_end]
        xattrs = _unpack_xattrs(view[link_end : link_end + extra_len]) if extra_len else ()
        return (
            Entry(path, kind, mode, uid, gid, mtime, size, link, major, minor, xattrs),
            offset,
            bool(sparse),
        )


_kept: WeakKeyDictionary[Store, dict[str, tuple[tuple[int, int, int], LayerIndex]]] = WeakKeyDictionary()
"""Of each store, by key: a file's inode, mtime and size, and what was in it."""


def open_index(store: Store, key: str) -> LayerIndex | None:
    """The index under ``key`` (a DiffID, or that of a variant); None if there is none, or it is damaged.

    Small ones are kept: each step of a build asks for those of all layers below it.
    """
    path = index_path(store, key)
    try:
        status = path.stat()
        version = status.st_ino, status.st_mtime_ns, status.st_size
        kept = _kept.setdefault(store, {})
        known = kept.get(key)
        if known is None or known[0] != version:
            known = version, LayerIndex(path, store.snapshots.boot)
            if status.st_size <= _KEPT and len(kept) < _MOST_KEPT:
                kept[key] = known
        return known[1]
    except (FileNotFoundError, StoreError):
        return None


def index_path(store: Store, key: str) -> Path:
    """Where the index of ``key`` is or would be."""
    return store.layers / (key.removeprefix("sha256:") + ".index")


# The mapped file


def key_at(view: Data, at: int) -> bytes:
    start = at + RECORD.size
    return view[start : start + int.from_bytes(view[at + _KEY_LENGTH_AT : at + _KEY_LENGTH_AT + 2], "little")]


def bisect(view: Data, offsets: array[int] | memoryview, key: bytes) -> int:
    """The number of the first record whose key is not below ``key``."""
    low, high = 0, len(offsets)
    while low < high:
        middle = (low + high) // 2
        if key_at(view, offsets[middle]) < key:
            low = middle + 1
        else:
            high = middle
    return low


def number_of(view: Data, offsets: array[int] | memoryview, key: bytes) -> int | None:
    number = bisect(view, offsets, key)
    return number if number < len(offsets) and key_at(view, offsets[number]) == key else None


def find(view: Data, offsets: array[int] | memoryview, key: bytes) -> int | None:
    number = number_of(view, offsets, key)
    return None if number is None else int(offsets[number])


def _unpack_list(view: Data, at: int) -> tuple[list[bytes], int]:
    (count,) = struct.unpack_from("<I", view, at)
    at += 4
    items = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", view, at)
        items.append(view[at + 4 : at + 4 + length])
        at += 4 + length
    return items, at


def _unpack_xattrs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    at = 0
    while at < len(data):
        name_len, value_len = XATTR.unpack_from(data, at)
        at += XATTR.size
        found.append((data[at : at + name_len], data[at + name_len : at + name_len + value_len]))
        at += name_len + value_len
    return tuple(found)


def _damaged(path: Path) -> StoreError:
    return StoreError(f"the file index {path} is damaged", hint="delete it; it is made again from its layer")
