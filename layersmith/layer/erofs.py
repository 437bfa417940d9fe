"""The file system of a layer as a read-only EROFS image. In: its tar in a file, its file index. Out: the rest of the file.

    0: superblock (at 1024) | START: the tar, as it is | inodes | directories and link targets

A file's inode points at its content in the tar: nothing is copied, and blocks of 512 bytes are what both are made of.
So an image is written in one go, where a directory of files takes some ten calls for each of them. The format is that
of fs/erofs/erofs_fs.h; see https://erofs.docs.kernel.org/en/latest/core_ondisk.html.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from layersmith.errors import LayersmithError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, ROOT, SYM, Entry
from layersmith.layer.index import ELSEWHERE, TYPE_BITS, WHT, LayerIndex

START = 4096
"""Where the tar begins in the file."""

_MAGIC = 0xE0F5E1E2
_BITS = 9
_BLOCK = 1 << _BITS
_PAGE = 4096
_SUPERBLOCK_AT = 1024
# magic, checksum, features, block bits, slots of extensions, root, inodes, time, its fraction, blocks, inodes at, ...
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
# format, units of xattrs, mode, 0, size, first block or device, number, uid, gid, mtime, its fraction, links
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_WHERE, _SIZE = struct.Struct("<I"), struct.Struct("<Q")
_SIZE_AT, _WHERE_AT, _LINKS_AT = 8, 16, 44
_EXTENDED = 1
"""i_format of an inode of 64 bytes whose data lies in one run of whole blocks."""
_SLOT = 32
"""An inode is named by the number of the slot that it begins in."""
_DIRENT = struct.Struct("<QHBx")
_XATTRS = struct.Struct("<IB7x")
_XATTR = struct.Struct("<BBH")
_MOST_XATTRS = 1 << 16
_LONGEST_NAME = 255
_NAMESPACES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
_OPAQUE = (b"trusted.overlay.opaque", b"y")
_TYPES = {REG: 1, DIR: 2, CHR: 3, WHT: 3, BLK: 4, FIFO: 5, SYM: 7}
"""As directories have them."""


class UnfitError(LayersmithError):
    """Only a directory can hold the layer, as when a file of it is not in one piece in its tar; or not even that."""


class Image:
    """All of an image but the tar. Raises UnfitError.

    The root's inode comes first, for the superblock has only 16 bits for its slot; then those of all other entries,
    two slots each, in the order of the index; last those with extended attributes, which need more.
    """

    def __init__(self, index: LayerIndex) -> None:
        self._index = index
        root = index.get(b"")
        self._roots = int(root is not None)
        root = root or ROOT
        attributes = self._attributes(root)
        self._inodes = bytearray()
        self._append(attributes)
        self._first = len(self._inodes) // _SLOT
        self._inodes += bytes((len(index) - self._roots) * _INODE.size)
        self._grown: dict[int, tuple[int, int]] = {}
        """Of entries with extended attributes, by number: the slot, and the bytes of those."""
        self._links: Counter[int] = Counter()
        self._pointers: list[tuple[int, int]] = []
        """(slot, block) of each inode that points into `_data`."""
        self._data: list[bytes] = []
        self._blocks = 0
        self._lay_out(root, len(attributes))

    def parts(self, tar_size: int) -> Iterator[tuple[int, bytes | bytearray]]:
        """(offset in the file, bytes) of all that is not the tar, the superblock last; it ends with a whole page."""
        inodes_at = START + _up(tar_size, _PAGE)
        data_at = inodes_at + _up(len(self._inodes), _BLOCK)
        for slot, block in self._pointers:
            _WHERE.pack_into(self._inodes, slot * _SLOT + _WHERE_AT, block + (data_at >> _BITS))
        for slot, more in self._links.items():
            _WHERE.pack_into(self._inodes, slot * _SLOT + _LINKS_AT, 1 + more)
        yield inodes_at, self._inodes
        end = _up(data_at + self._blocks * _BLOCK, _PAGE)
        yield data_at, b"".join(self._data).ljust(end - data_at, b"\0")
        count = len(self._index) + 1 - self._roots
        head = _MAGIC, 0, 0, _BITS, 0, 0, count, 0, 0, end >> _BITS, inodes_at >> _BITS, 0
        yield (
            _SUPERBLOCK_AT,
            _SUPERBLOCK.pack(*head, bytes(16), b"%016x" % tar_size, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        )

    def _lay_out(self, root: Entry, more: int) -> None:
        """Go through the index. It is sorted, so a directory is complete once a path comes that lies elsewhere."""
        self._put(0, root, more, 0)
        unfinished = [_Directory(b"", 0, 0)]
        for number, (entry, offset, sparse) in enumerate(self._index.stored(), -self._roots):
            path, kind = entry.path, entry.kind
            if not path:
                continue
            while not path.startswith(unfinished[-1].prefix):
                self._finish(unfinished.pop())
            parent = unfinished[-1]
            if kind == LNK:
                slot, kind = self._link(entry.link)
            else:
                slot, more = self._slot(number, entry)
                if entry.size and (sparse or offset == ELSEWHERE):
                    raise UnfitError("a file's content is not in one piece in the tar")
                self._put(slot, entry, more, offset)
            name = path[len(parent.prefix) :]
            if len(name) > _LONGEST_NAME:
                raise UnfitError("a name is too long")
            parent.children.append((name, slot, _TYPES[kind]))
            if kind == DIR:
                parent.directories += 1
                unfinished.append(_Directory(path + b"/", slot, parent.slot))
        while unfinished:
            self._finish(unfinished.pop())

    def _link(self, path: bytes) -> tuple[int, bytes]:
        """The slot and kind of the entry at ``path``, which gets another name."""
        number = self._index.number(path)
        if number is None:
            raise UnfitError("a file's content is not in the tar")
        entry, _, _ = self._index.stored_at(number)
        slot, _ = self._slot(number - self._roots, entry)
        self._links[slot] += 1
        return slot, entry.kind

    def _slot(self, number: int, entry: Entry) -> tuple[int, int]:
        """Where the inode of an entry begins, and how many bytes of extended attributes follow it."""
        if not entry.xattrs and not (entry.kind == DIR and self._index.opaque(entry.path)):
            return self._first + number * (_INODE.size // _SLOT), 0
        if number not in self._grown:
            attributes = self._attributes(entry)
            self._grown[number] = len(self._inodes) // _SLOT, len(attributes)
            self._append(attributes)
        return self._grown[number]

    def _append(self, attributes: bytes) -> None:
        """Make room for one more inode, and for its attributes."""
        size = _INODE.size + len(attributes)
        self._inodes += bytes(_INODE.size) + attributes + bytes(_up(size, _SLOT) - size)

    def _put(self, slot: int, entry: Entry, more: int, offset: int) -> None:
        _, kind, mode, uid, gid, mtime, size, link, major, minor, _ = entry
        where = 0
        if kind == REG:
            where = (START + offset) >> _BITS if size else 0
        elif kind == SYM:
            size, mode = len(link), 0o777  # Linux knows no other
            self._point(slot, link)
        elif kind in (CHR, BLK):
            where = (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12  # new_encode_dev
        units = (more - _XATTRS.size) // 4 + 1 if more else 0
        head = _EXTENDED, units, TYPE_BITS[kind] | mode, 0, size, where, slot
        _INODE.pack_into(self._inodes, slot * _SLOT, *head, uid, gid, mtime, 0, 1)

    def _finish(self, directory: _Directory) -> None:
        """Write a directory: blocks of entries, sorted, each with its names behind them."""
        directory.children.sort()
        blocks, start, room = [], 0, _BLOCK
        for number, (name, _, _) in enumerate(directory.children):
            room -= _DIRENT.size + len(name)
            if room < 0:
                blocks.append(_directory_block(directory.children[start:number]).ljust(_BLOCK, b"\0"))
                start, room = number, _BLOCK - _DIRENT.size - len(name)
        blocks.append(_directory_block(directory.children[start:]))
        content = b"".join(blocks)
        self._point(directory.slot, content)
        at = directory.slot * _SLOT
        _SIZE.pack_into(self._inodes, at + _SIZE_AT, len(content))
        _WHERE.pack_into(self._inodes, at + _LINKS_AT, 2 + directory.directories)

    def _point(self, slot: int, content: bytes) -> None:
        """Let an inode have ``content``."""
        self._pointers.append((slot, self._blocks))
        size = _up(len(content), _BLOCK)
        self._data.append(content.ljust(size, b"\0"))
        self._blocks += size >> _BITS

    def _attributes(self, entry: Entry) -> bytes:
        """What follows an inode for its extended attributes; empty without any."""
        pairs = entry.xattrs
        if entry.kind == DIR and self._index.opaque(entry.path):
            pairs = (*pairs, _OPAQUE)
        if not pairs:
            return b""
        parts = [_XATTRS.pack(0, 0)]
        for name, value in pairs:
            prefix, number = next((p, n) for p, n in _NAMESPACES if name.startswith(p))
            suffix = name[len(prefix) :]
            if len(suffix) > 255 or len(value) > 0xFFFF:
                raise UnfitError("an extended attribute is too long")
            head = _XATTR.pack(len(suffix), number, len(value))
            parts.append((head + suffix + value).ljust(_up(len(head) + len(suffix) + len(value), 4), b"\0"))
        whole = b"".join(parts)
        if len(whole) > _MOST_XATTRS:
            raise UnfitError("the extended attributes are too long")
        return whole


def tar_size(superblock: bytes) -> int | None:
    """How many bytes of tar the image has whose first `START` bytes are given: its volume's name. None if it is none."""
    if len(superblock) < START:
        return None
    magic, *_, name, _, _, _, _, _, _, _, _, _ = _SUPERBLOCK.unpack_from(superblock, _SUPERBLOCK_AT)
    try:
        return int(name, 16) if magic == _MAGIC else None
    except ValueError:
        return None


class _Directory:
    """One that is still being filled: what lies in it, as (name, slot, type)."""

    __slots__ = ("children", "directories", "prefix", "slot")

    def __init__(self, prefix: bytes, slot: int, parent: int) -> None:
        self.prefix = prefix
        self.slot = slot
        self.directories = 0
        self.children = [(b".", slot, _TYPES[DIR]), (b"..", parent, _TYPES[DIR])]


def _directory_block(children: list[tuple[bytes, int, int]]) -> bytes:
    at = len(children) * _DIRENT.size
    entries = []
    for name, slot, kind in children:
        entries.append(_DIRENT.pack(slot, at, kind))
        at += len(name)
    entries += [name for name, _, _ in children]
    return b"".join(entries)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
