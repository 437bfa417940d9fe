"""Items to a tar: ustar headers, and a PAX header only before an entry that ustar can't hold.

In: entries with their content. Out: exact `PIECE`s of the tar, in order, the last one shorter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from zlib import adler32

from layersmith.errors import StepError
from layersmith.layer.entry import DIR, Content, Entry

PIECE = 4 << 20
"""Bytes handed over at a time. ISA-L's output depends on it, so it is part of the format.

Each handing over makes threads wait for the interpreter lock, and longer on a busy machine: with 1 MiB, packing
40,000 files on one took a quarter longer.
"""

BLOCK = 512
RECORD = 10240
"""A tar's length is a multiple of this (GNU tar's default blocking factor of 20)."""

_ZEROS = bytes(RECORD)
_MAX_OCTAL_7 = 0o7777777
_MAX_OCTAL_11 = 0o77777777777
_PLAIN_TAIL = bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00" + bytes(167)

Emit = Callable[[memoryview, int], memoryview]


class TarWriter:
    """Writes entries into buffers that it exchanges through ``emit``.

    ``emit(buffer, length)`` takes a buffer whose first ``length`` bytes are the tar's next, and gives a writable one
    of `PIECE` bytes to go on with.
    """

    def __init__(self, emit: Emit, buffer: memoryview) -> None:
        self._emit = emit
        self._buffer = buffer
        self._position = 0
        self._before = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._before + self._position

    def add(self, entry: Entry, content: Content = None) -> int:
        """Write one entry; gives the offset of its content in the tar.

        Raises StepError where ``content`` is not ``entry.size`` bytes long.
        """
        header = encode(entry)
        buffer, start = self._buffer, self._position
        body = start + len(header)
        size = entry.size
        end = body + size
        after = (end + 511) & -512
        if after >= PIECE:
            return self._add_slowly(entry, content, header)
        buffer[start:body] = header
        if size:
            if type(content) is int:
                got = os.readv(content, (buffer[body:end],))
                while got != size:  # as some network file systems have it
                    more = os.readv(content, (buffer[body + got : end],))
                    if not more:
                        raise _changed(entry)
                    got += more
            elif type(content) is bytes and len(content) == size:
                buffer[body:end] = content
            else:
                return self._add_slowly(entry, content, header)
            if after != end:
                buffer[end:after] = _ZEROS[: after - end]
        self._position = after
        return self._before + body

    def close(self) -> None:
        """Write the end of the archive, and hand over what is left."""
        end = self.size + 2 * BLOCK
        self._put(bytes(2 * BLOCK + -end % RECORD))
        if self._position:
            self._emit(self._buffer, self._position)
            self._before += self._position
            self._position = 0

    def _add_slowly(self, entry: Entry, content: Content, header: bytes) -> int:
        """`add` for an entry that doesn't fit into the buffer, or whose content is a stream."""
        self._put(header)
        offset = self.size
        if isinstance(content, int):
            self._put_file(entry, content)
        elif isinstance(content, bytes):
            if len(content) != entry.size:
                raise _changed(entry)
            self._put(content)
        elif content is not None:
            left = entry.size
            while left and (data := content.read(min(left, PIECE))):
                self._put(data)
                left -= len(data)
            if left or content.read(1):
                raise _changed(entry)
        elif entry.size:
            raise ValueError(f"{entry.path!r} has a size, but no content")
        self._put(_ZEROS[: -entry.size % BLOCK])
        return offset

    def _put_file(self, entry: Entry, fd: int) -> None:
        # The descriptor's own stamp, taken before and after, shows a write that kept the size.
        before = os.fstat(fd)
        left = entry.size
        while left:
            room = min(left, PIECE - self._position)
            got = os.readv(fd, (self._buffer[self._position : self._position + room],))
            if got == 0:
                raise _changed(entry)
            left -= got
            self._advance(got)
        after = os.fstat(fd)
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise _changed(entry)

    def _put(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            room = min(len(data) - done, PIECE - self._position)
            self._buffer[self._position : self._position + room] = data[done : done + room]
            done += room
            self._advance(room)

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position == PIECE:
            self._buffer = self._emit(self._buffer, PIECE)
            self._before += PIECE
            self._position = 0


def _changed(entry: Entry) -> StepError:
    return StepError(
        f"{os.fsdecode(entry.path)!r} changed while it was read ({entry.size} bytes were expected)",
        hint="nothing may write to the files while they are put into a layer",
    )


# Headers


def encode(entry: Entry) -> bytes:
    """The header block of an entry, after a PAX header where ustar can't hold the entry. Length: n * 512."""
    path, kind, mode, uid, gid, mtime, size, link, major, minor, xattrs = entry
    name = (path + b"/" if kind == DIR else path) if path else b"./"
    if (
        len(name) <= 100
        and len(link) <= 100
        and not xattrs
        and 0 <= mtime <= _MAX_OCTAL_11
        and uid <= _MAX_OCTAL_7
        and gid <= _MAX_OCTAL_7
        and size <= _MAX_OCTAL_11
    ):
        return _header(name, b"", kind, mode, uid, gid, size, mtime, link, major, minor)
    return _encode_with_pax(entry, name)


def _encode_with_pax(entry: Entry, name: bytes) -> bytes:
    records: dict[bytes, bytes] = {}
    prefix, short = _split(name)
    if not short:
        records[b"path"] = name
        short = name[:100]
    link = entry.link
    if len(link) > 100:
        records[b"linkpath"] = link
        link = link[:100]
    # POSIX has PAX values in UTF-8, or else hdrcharset=BINARY before them. GNU tar complains about that record, and
    # Go's archive/tar, like anybody else, takes the bytes as they are without it.

    def fitting(key: bytes, value: int, most: int) -> int:
        if 0 <= value <= most:
            return value
        records[key] = b"%d" % value
        return 0

    uid = fitting(b"uid", entry.uid, _MAX_OCTAL_7)
    gid = fitting(b"gid", entry.gid, _MAX_OCTAL_7)
    size = fitting(b"size", entry.size, _MAX_OCTAL_11)
    mtime = fitting(b"mtime", entry.mtime, _MAX_OCTAL_11)
    for key, value in entry.xattrs:
        if b"=" in key:
            raise StepError(
                f"{os.fsdecode(entry.path)!r}: a tar can't hold the extended attribute {os.fsdecode(key)!r}",
                hint="remove the attribute with setfattr -x",
            )
        if value:  # In PAX, an empty value is the absence of one.
            records[b"SCHILY.xattr." + key] = value
    ustar = _header(
        short, prefix, entry.kind, entry.mode, uid, gid, size, mtime, link, entry.major, entry.minor
    )
    if not records:
        return ustar
    pax = b"".join(_record(key, value) for key, value in sorted(records.items()))
    pax_name = b"PaxHeaders.0/" + entry.name[:87]
    return _header(pax_name, b"", b"x", 0o644, 0, 0, len(pax), 0) + pax + _ZEROS[: -len(pax) % BLOCK] + ustar


def _header(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    if link or prefix or major or minor:
        tail = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
            kind,
            link.ljust(100, b"\0"),
            _ZEROS[:64],
            major,
            minor,
            prefix.ljust(167, b"\0"),
        )
    else:
        tail = kind + _PLAIN_TAIL
    # The sum of all bytes, the checksum field taken as eight spaces. adler32's low word is one more than the sum
    # modulo 65521, which 256 bytes of at most 255 can't reach; the three parts are 148, 8 and 356 bytes long.
    total = (
        (adler32(head) & 0xFFFF)
        + (adler32(tail[:200]) & 0xFFFF)
        + (adler32(tail[200:]) & 0xFFFF)
        + (8 * 0x20 - 3)
    )
    return b"%b%06o\0 %b" % (head, total, tail)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """``name`` as ustar's (prefix, name), or two empty strings if it doesn't fit."""
    if len(name) <= 100:
        return b"", name
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash < 1 or len(name) - slash - 1 > 100:
        return b"", b""
    return name[:slash], name[slash + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record: its own length in decimal, digits included, then ``key=value``."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %b=%b\n" % (length, key, value)
