"""The blobs of rpm's own ``Packages.db``, which SUSE's images have. In: its bytes. Out: headers.

rpm's lib/backend/ndb/rpmpkg.c: a file header, then slots of 16 bytes in the first pages, each saying in which blocks of 16
bytes its package's blob lies; a blob has a header and a checksum of its own. Integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC, _SLOT, _BLOB = b"RpmP", b"Slot", b"BlbS"
_PAGE, _BLOCK = 4096, 16
_HEADER = struct.Struct("<4sIIII")
"""Magic, version, generation, pages of slots, next package index; 12 more bytes are unused."""
_ENTRY = struct.Struct("<4sIII")
"""Of a slot: magic, package index (0: free), first block, blocks. Of a blob: magic, package index, generation, bytes."""
_FIRST_SLOT = 32


def is_ndb(data: bytes) -> bool:
    return data[:4] == _MAGIC


def values(data: bytes) -> Iterator[bytes]:
    """Each package's header. Raises ValueError on what is damaged."""
    if len(data) < _FIRST_SLOT:
        raise ValueError("the package file is cut short")
    *_, pages, _ = _HEADER.unpack_from(data)
    total = 0
    for at in range(_FIRST_SLOT, min(pages * _PAGE, len(data) - _ENTRY.size + 1), _ENTRY.size):
        magic, index, block, blocks = _ENTRY.unpack_from(data, at)
        if magic != _SLOT:
            raise ValueError("a slot that is none")
        if not index:
            continue
        start = block * _BLOCK
        if start + _ENTRY.size > len(data):
            raise ValueError("a package outside of the file")
        magic, owner, _, size = _ENTRY.unpack_from(data, start)
        total += size
        if magic != _BLOB or owner != index or size > blocks * _BLOCK or total > len(data):
            raise ValueError("a package that is none")
        yield data[start + _ENTRY.size : start + _ENTRY.size + size]
