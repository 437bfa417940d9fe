"""The values of a Berkeley DB hash file, which rpm wrote until 4.15 (``Packages``). In: its bytes. Out: headers.

Oracle's dbinc/db_page.h: pages of one size, the first a hash's metadata. On a page of a bucket the index after its header
tells where items lie, keys and values by turns; a large value is in a chain of overflow pages. Integers are of the machine
that wrote it. Nothing here looks for a key, so it does not matter which bucket a page belongs to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAGIC = 0x061561
_HASH, _HASH_UNSORTED, _OVERFLOW, _HASH_META = 13, 2, 7, 8
_KEY_DATA, _OFF_PAGE = 1, 3
_PAGE_HEADER = 26


def is_hash(data: bytes) -> bool:
    return data[12:16] in (MAGIC.to_bytes(4, "little"), MAGIC.to_bytes(4, "big"))


def values(data: bytes) -> Iterator[bytes]:
    """Each value, keys left out. Raises ValueError on what is damaged."""
    order = "<" if data[12:16] == MAGIC.to_bytes(4, "little") else ">"
    file = _File(data, order)
    for number in range(1, file.count):
        if file.type(number) in (_HASH, _HASH_UNSORTED):
            yield from file.values(number)


class _File:
    def __init__(self, data: bytes, order: str) -> None:
        self.data = data
        self.order = order
        self.size = self.number(data, 20, "I")
        if (
            data[24:26] != bytes([0, _HASH_META])
            or not 512 <= self.size <= 65536
            or self.size & self.size - 1
        ):
            raise ValueError("not a hash file, or an encrypted one")
        self.count = len(data) // self.size
        self.followed = 0
        """Overflow pages read so far: each belongs to one value, so more than there are is a loop."""

    def number(self, data: bytes, at: int, form: str) -> int:
        try:
            return int(struct.unpack_from(self.order + form, data, at)[0])
        except struct.error:
            raise ValueError("the hash file is cut short") from None

    def page(self, number: int) -> bytes:
        if not 0 < number < self.count:
            raise ValueError(f"the hash file has no page {number}")
        return self.data[number * self.size : (number + 1) * self.size]

    def type(self, number: int) -> int:
        return self.data[number * self.size + 25]

    def values(self, number: int) -> Iterator[bytes]:
        page = self.page(number)
        count = self.number(page, 20, "H")
        places = [self.number(page, _PAGE_HEADER + 2 * index, "H") for index in range(count)]
        for index in range(1, count, 2):
            start, end = places[index], places[index - 1]  # items lie from the page's end to its beginning
            if not _PAGE_HEADER <= start < end <= self.size:
                raise ValueError("an item outside of its page")
            if page[start] == _KEY_DATA:
                yield page[start + 1 : end]
            elif page[start] == _OFF_PAGE:
                yield self.chain(self.number(page, start + 4, "I"), self.number(page, start + 8, "I"))

    def chain(self, number: int, size: int) -> bytes:
        parts = []
        while number:
            self.followed += 1
            page = self.page(number)
            if self.followed > self.count or page[25] != _OVERFLOW:
                raise ValueError("a chain of pages that has no end")
            parts.append(page[_PAGE_HEADER : _PAGE_HEADER + self.number(page, 22, "H")])
            number = self.number(page, 16, "I")
        return b"".join(parts)[:size]
