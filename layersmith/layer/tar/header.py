"""The bytes of tar headers, read: numbers, names, PAX records and sparse maps. In: header blocks. Out: `Header`, dicts.

Formats: POSIX pax(1) "ustar Interchange Format" and "pax Header Block", GNU tar manual, "Basic Tar Format" and
"Storing Sparse Files".
"""

from __future__ import annotations

import base64
import struct
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from zlib import adler32

from layersmith.errors import TransportError

BLOCK = 512

_LAYOUT = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_NUL = bytes(BLOCK)
_MAX_NUMBER = (1 << 63) - 1

Regions = tuple[tuple[int, int], ...]
"""Where the data of a sparse file lies: (offset, length) pairs, ascending; the rest is holes."""


class Header(NamedTuple):
    """A header block's fields; ``name`` has ustar's prefix in front. ``sparse`` is the raw rest of a GNU header."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    link: bytes
    major: int
    minor: int


def parse_header(block: bytes) -> Header | None:
    """The fields of 512 bytes, or None for a block of zeros. Raises TransportError for a wrong checksum or number."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _LAYOUT.unpack(
        block
    )
    if not name[0] and block == _NUL:
        return None
    _verify(block, checksum)
    name = name.partition(b"\0")[0]
    if magic == b"ustar\x0000" and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    if kind in b"34":
        device = number(major), number(minor)
    else:
        device = 0, 0
    return Header(
        name,
        number(mode) & 0o7777,
        number(uid),
        number(gid),
        number(size),
        number(mtime),
        kind,
        link.partition(b"\0")[0],
        *device,
    )


def _verify(block: bytes, checksum: bytes) -> None:
    # As in the writer: adler32's low word is 1 + the sum of the bytes, exact below 65521, so for 256 bytes at once.
    total = (
        (adler32(block[:148]) & 0xFFFF)
        + (adler32(block[156:356]) & 0xFFFF)
        + (adler32(block[356:]) & 0xFFFF)
        + (8 * 0x20 - 3)
    )
    given = number(checksum)
    if given == total:
        return
    # Some old tars summed signed chars.
    if given == total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        return
    raise TransportError("not a tar archive, or a damaged one: a header's checksum is wrong")


@lru_cache(1024)  # owners, modes and times repeat from file to file
def number(field: bytes) -> int:
    """A numeric field: octal digits ended by a space or NUL, or GNU's base-256 for what those can't hold."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # The marker is the topmost bit; the one below it is the sign of a two's complement number.
        value = value - (1 << bits) if field[0] & 0x40 else value & ~(1 << (bits - 1))
        if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise TransportError("a tar header has a number beyond 63 bits")
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    digits = digits.partition(b"\0")[0].rstrip(b" ")
    if not digits.isdigit():
        raise TransportError(f"a tar header has {field!r} where a number should be")
    try:
        return int(digits, 8)
    except ValueError:
        raise TransportError(f"a tar header has {field!r} where an octal number should be") from None


# PAX

Pax = dict[bytes, bytes]


def parse_pax(data: bytes) -> tuple[Pax, list[tuple[bytes, bytes]]]:
    """The records of a PAX header as a dict, and in order (GNU's sparse format 0.0 repeats keys)."""
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        if not space + 2 < end <= len(data) or data[end - 1] != 0x0A:
            raise TransportError("a tar's PAX header is malformed")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise TransportError("a tar's PAX header has a record without a key")
        records.append((key, value))
        position = end
    return dict(records), records


def pax_number(text: bytes) -> int:
    """A decimal PAX number; a fraction (of a time stamp) is floored."""
    whole, point, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[1:] if negative else whole
    if not digits.isdigit() or (point and fraction and not fraction.isdigit()) or len(digits) > 19:
        raise TransportError(f"a tar's PAX header has {text[:40]!r} where a number should be")
    value = int(digits)
    if value > _MAX_NUMBER:
        raise TransportError(f"a tar's PAX header has a number beyond 63 bits: {text[:40]!r}")
    if negative:
        return -value - 1 if fraction.strip(b"0") else -value
    return value


def pax_xattrs(pax: Pax) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes in PAX records, star's and libarchive's way of writing them, sorted by name."""
    found: dict[bytes, bytes] = {}
    for key, value in pax.items():
        if key.startswith(b"LIBARCHIVE.xattr."):
            try:
                name, data = unquote_to_bytes(key[17:]), base64.b64decode(value + b"=" * (-len(value) % 4))
            except ValueError:
                raise TransportError(f"a tar's PAX header has a malformed {key[:80]!r}") from None
            found.setdefault(name, data)
        elif key.startswith(b"SCHILY.xattr."):
            found[key[13:]] = value
    if any(not name or b"\0" in name or not value for name, value in found.items()):
        found = {n: v for n, v in found.items() if n and b"\0" not in n and v}
    return tuple(sorted(found.items()))


# Sparse files


def regions(pairs: list[int], real_size: int) -> Regions:
    """A checked sparse map of a flat list of offsets and lengths. Raises TransportError for one that makes no sense."""
    if len(pairs) % 2:
        raise TransportError("a tar's sparse map has an offset without a length")
    found = []
    last = 0
    for offset, length in zip(pairs[::2], pairs[1::2], strict=True):
        if offset < last or length < 0 or offset + length > real_size:
            raise TransportError("a tar's sparse map overlaps itself or goes beyond its file")
        last = offset + length
        if length:
            found.append((offset, length))
    return tuple(found)


def gnu_sparse(block: bytes) -> tuple[list[int], int, bool]:
    """Of an old GNU sparse header: the flat map in it, the real size, and whether more blocks of map follow."""
    return _sparse_numbers(block, 386, 4), number(block[483:495]), block[482] != 0


def gnu_sparse_more(block: bytes) -> tuple[list[int], bool]:
    """Of a block of map that follows: as `gnu_sparse`."""
    return _sparse_numbers(block, 0, 21), block[504] != 0


def _sparse_numbers(block: bytes, start: int, count: int) -> list[int]:
    flat: list[int] = []
    for at in range(start, start + 24 * count, 24):
        if not block[at]:
            break
        flat += number(block[at : at + 12]), number(block[at + 12 : at + 24])
    return flat


def pax_sparse(pax: Pax, records: list[tuple[bytes, bytes]]) -> tuple[list[int], int] | None:
    """The flat map and real size of GNU's sparse formats 0.0 and 0.1; None if the header is of neither."""
    if b"GNU.sparse.size" not in pax:
        return None
    if b"GNU.sparse.map" in pax:
        flat = [pax_number(n) for n in pax[b"GNU.sparse.map"].split(b",") if n]
    else:
        flat = [pax_number(v) for k, v in records if k in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
    return flat, pax_number(pax[b"GNU.sparse.size"])
