"""A tar of whatever making to entries: ustar, PAX (local and global), GNU and old V7 headers, sparse files.

In: a stream, which may be hostile. Out: entries, each with its content, which must be read before the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from layersmith.errors import HostileInputError, TransportError
from layersmith.layer.entry import DIR, LNK, MAX_PATH, REG, SYM, Entry, Readable
from layersmith.layer.tar.header import (
    BLOCK,
    Header,
    Pax,
    Regions,
    gnu_sparse,
    gnu_sparse_more,
    parse_header,
    parse_pax,
    pax_number,
    pax_sparse,
    pax_xattrs,
    regions,
)

PIECE = 1 << 20
MAX_META = 1 << 20
"""Bytes of one PAX header, long name or sparse map (as in Go's archive/tar)."""

_KINDS = {bytes([c]): bytes([c]) for c in b"0123456"} | {b"\0": REG, b"7": REG, b"S": REG, b"D": DIR}
# V is the volume's label, M a continuation of an earlier volume's file, N a long name of a 1980s GNU tar.
_SKIPPED = frozenset({b"V"})
# What makes no sense for more than one file is not taken from a global header.
_NOT_GLOBAL = frozenset({b"path", b"linkpath", b"size"})


class TarReader:
    """Iterates over a tar's entries; `take` gives the content of the latest one.

    ``pieces`` are the tar's bytes, each a multiple of 512 long except the last; a piece may become invalid when the
    next one is asked for. Paths are cleaned as `clean_path` says. ``max_size`` and ``max_entries`` bound the tar's
    length (a sparse file counts in full) and the number of its entries.

    Raises TransportError for what is not a tar or is cut short, HostileInputError beyond the limits.
    """

    def __init__(
        self, pieces: Iterable[bytes | memoryview], *, max_size: int = 1 << 62, max_entries: int = 1 << 62
    ) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._position = 0
        self._before = 0
        self._left = 0
        self._padding = 0
        self._holes = 0
        self._max_size = max_size
        self._entries_left = max_entries
        self._max_entries = max_entries
        self._global: Pax = {}
        self.sparse: Regions | None = None
        """Where the latest entry's content has data; None if it is all data. `take` gives the data alone."""

    @property
    def offset(self) -> int:
        """Of the next byte in the tar; before the first `take`, that of the latest entry's content."""
        return self._before + self._position

    def __iter__(self) -> TarReader:
        return self

    def __next__(self) -> Entry:
        if self._left or self._padding:
            self._skip()
        pax: Pax | None = None
        records: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        while True:
            block = self._block()
            header = None if block is None else parse_header(block)
            if block is None or header is None:
                if pax or long_name or long_link:
                    raise TransportError("the tar ends between a long header and its entry")
                # The DiffID covers what follows the end mark, too.
                while self._another_piece():
                    pass
                raise StopIteration
            kind = header.kind
            if kind in b"xXgLK":
                data = self._meta(header.size)
                if kind in b"xX":
                    pax, records = parse_pax(data)
                elif kind == b"g":
                    shared, _ = parse_pax(data)
                    self._global |= {
                        k: v for k, v in shared.items() if k not in _NOT_GLOBAL and k[:4] != b"GNU."
                    }
                elif kind == b"L":
                    long_name = data.partition(b"\0")[0]
                else:
                    long_link = data.partition(b"\0")[0]
                continue
            if kind not in _KINDS:
                if kind not in _SKIPPED:
                    raise TransportError(
                        f"{header.name.decode(errors='replace')!r}: unknown tar entry type {kind!r}"
                    )
                self._start(header.size)
                self._skip()
                continue
            self._entries_left -= 1
            if self._entries_left < 0:
                raise HostileInputError(
                    f"more than {self._max_entries} entries in one tar",
                    hint="raise --max-layer-size if you trust it",
                )
            if long_name is not None or long_link is not None:
                header = header._replace(
                    name=header.name if long_name is None else long_name,
                    link=header.link if long_link is None else long_link,
                )
            return self._entry(header, block, pax, records)

    def take(self) -> memoryview:
        """The next bytes of the latest entry's data, as many as lie together; empty at the end."""
        left = self._left
        if not left:
            return self._piece[:0]
        start = self._position
        if start == len(self._piece):
            self._next_piece()
            start = 0
        end = min(start + left, len(self._piece))
        self._position = end
        self._left = left - (end - start)
        return self._piece[start:end]

    # The stream

    def _next_piece(self) -> None:
        """Go on to the next piece. Raises TransportError at the end of the stream."""
        if not self._another_piece():
            raise TransportError("the tar is cut short")

    def _another_piece(self) -> bool:
        self._before += len(self._piece)
        self._position = 0
        self._piece = memoryview(next(self._pieces, b""))
        if self._before + len(self._piece) + self._holes > self._max_size:
            raise too_large(self._max_size)
        return len(self._piece) > 0

    def _block(self) -> bytes | None:
        """The next 512 bytes; None at a proper end of the stream without an end mark."""
        start = self._position
        end = start + BLOCK
        if end <= len(self._piece):
            self._position = end
            return bytes(self._piece[start:end])
        if start == len(self._piece):
            if not self._another_piece():
                return None
            if len(self._piece) >= BLOCK:
                self._position = BLOCK
                return bytes(self._piece[:BLOCK])
        raise TransportError("the tar is cut short")

    def _start(self, size: int) -> None:
        if size < 0:
            raise HostileInputError("a tar entry has a negative size")
        self._left = size
        self._padding = -size % BLOCK

    def _skip(self) -> None:
        while self._left:
            self.take()
        while self._padding:
            # Padding never crosses a piece, unless the stream ends inside it.
            if self._position == len(self._piece):
                self._next_piece()
            step = min(self._padding, len(self._piece) - self._position)
            self._position += step
            self._padding -= step

    def _meta(self, size: int) -> bytes:
        if not 0 <= size <= MAX_META:
            raise HostileInputError(f"a tar has a header of {size} bytes; {MAX_META} are allowed")
        self._start(size)
        data = b"".join(bytes(self.take()) for _ in iter(lambda: self._left, 0))
        self._skip()
        return data

    # Entries

    def _entry(
        self, header: Header, block: bytes, pax: Pax | None, records: list[tuple[bytes, bytes]]
    ) -> Entry:
        name, mode, uid, gid, size, mtime, kind, link, major, minor = header
        if pax or self._global:
            merged = {k: v for k, v in (self._global | (pax or {})).items() if v}
            name = merged.get(b"path", name)
            name = merged.get(b"GNU.sparse.name", name)
            link = merged.get(b"linkpath", link)
            uid = pax_number(merged[b"uid"]) if b"uid" in merged else uid
            gid = pax_number(merged[b"gid"]) if b"gid" in merged else gid
            size = pax_number(merged[b"size"]) if b"size" in merged else size
            mtime = pax_number(merged[b"mtime"]) if b"mtime" in merged else mtime
            xattrs = pax_xattrs(merged)
        else:
            merged = {}
            xattrs = ()
        if not 0 <= uid < 0xFFFFFFFF or not 0 <= gid < 0xFFFFFFFF:
            raise HostileInputError(f"{_shown(name)}: owner {uid}:{gid} is out of range")
        if len(name) > MAX_PATH or len(link) > MAX_PATH or b"\0" in name or b"\0" in link:
            raise HostileInputError(
                f"{_shown(name)}: its name or link target is too long, or has a NUL in it"
            )
        real = _KINDS[kind]
        if real == REG and name.endswith(b"/") and kind in b"\x000":
            real = DIR  # V7 had no type for directories.
        self.sparse = None
        path = clean_path(name)
        if real == REG:
            self._start(size)
            if kind == b"S" or b"GNU.sparse.major" in merged or b"GNU.sparse.size" in merged:
                size = self._begin_sparse(kind, block, merged, records)
            return Entry(path, REG, mode, uid, gid, mtime, size, b"", 0, 0, xattrs)
        # Sizes of other types are a leftover (hard links made by cpio) or a GNU dump directory's list.
        self._start(size if kind == b"D" else 0)
        if real == LNK:
            link = clean_path(link)
        elif real != SYM:
            link = b""
        elif not link:
            raise TransportError(f"{_shown(name)}: a symbolic link without a target")
        return Entry(path, real, mode, uid, gid, mtime, 0, link, major, minor, xattrs)

    def _begin_sparse(self, kind: bytes, block: bytes, pax: Pax, records: list[tuple[bytes, bytes]]) -> int:
        """Read the map of a sparse file into ``self.sparse``; gives the file's real size."""
        stored = self._left
        if kind == b"S":
            flat, real, more = gnu_sparse(block)
            while more:
                following = self._block()
                if following is None or len(flat) * 16 > MAX_META:
                    raise TransportError("a tar's sparse map is cut short or too long")
                extra, more = gnu_sparse_more(following)
                flat += extra
        elif pax.get(b"GNU.sparse.major") == b"1" and pax.get(b"GNU.sparse.minor") == b"0":
            real = pax_number(pax.get(b"GNU.sparse.realsize", b"0"))
            flat = self._map_in_content()
            stored = self._left
        else:
            old = pax_sparse(pax, records)
            if old is None:
                raise TransportError("a sparse file of an unknown format")
            flat, real = old
        found = regions(flat, real)
        if sum(length for _, length in found) != stored:
            raise TransportError("a tar's sparse map does not fit its data")
        self._holes += max(0, real - stored)
        if self.offset + self._holes > self._max_size:
            raise too_large(self._max_size)
        self.sparse = found
        return real

    def _map_in_content(self) -> list[int]:
        """GNU sparse format 1.0: decimal numbers on lines of their own, in whole blocks before the data."""
        text = b""
        wanted = None
        while True:
            if self._left < BLOCK or len(text) > MAX_META:
                raise TransportError("a tar's sparse map is cut short or too long")
            following = self._block()
            if following is None:
                raise TransportError("the tar is cut short")
            self._left -= BLOCK
            text += following
            if wanted is None and b"\n" in text:
                wanted = 2 * pax_number(text.partition(b"\n")[0])
            if wanted is not None and text.count(b"\n") > wanted:
                return [pax_number(line) for line in text.split(b"\n")[1 : wanted + 1]]


def too_large(most: int) -> HostileInputError:
    """What to raise for a tar of more than ``most`` bytes."""
    return HostileInputError(
        f"the tar is larger than {most} bytes unpacked", hint="raise --max-layer-size if you trust it"
    )


def read_tar(
    stream: BinaryIO | Readable, *, max_size: int = 1 << 62, max_entries: int = 1 << 62
) -> Iterator[tuple[Entry, Readable | None]]:
    """The entries of the plain tar ``stream``, with a stream of the content for each REG: `Item`s, as `pack` takes.

    Errors are those of `TarReader`.
    """
    reader = TarReader(pieces(stream), max_size=max_size, max_entries=max_entries)
    for entry in reader:
        yield entry, Body(reader, entry) if entry.kind == REG else None


def pieces(stream: BinaryIO | Readable) -> Iterator[bytes]:
    """The bytes of ``stream`` in pieces that suit `TarReader`, however short its reads are."""
    while True:
        parts = []
        have = 0
        while have < PIECE and (data := stream.read(PIECE - have)):
            parts.append(data)
            have += len(data)
        if not have:
            return
        yield parts[0] if len(parts) == 1 else b"".join(parts)


class Body:
    """The content of a reader's latest entry as a stream, the holes of a sparse file filled with zeros."""

    def __init__(self, reader: TarReader, entry: Entry) -> None:
        self._reader = reader
        self._rest = memoryview(b"")
        self._spans = _spans(reader.sparse, entry.size)
        self._hole, self._data = next(self._spans)

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes (all for -1), ``b""`` at the end."""
        parts = []
        while size:
            part = self._read_some(size if size > 0 else PIECE)
            if not part:
                break
            parts.append(part)
            if size > 0:
                size -= len(part)
        return b"".join(parts)

    def _read_some(self, most: int) -> bytes:
        while not self._hole and not self._data:
            following = next(self._spans, None)
            if following is None:
                return b""
            self._hole, self._data = following
        if self._hole:
            count = min(most, self._hole, PIECE)
            self._hole -= count
            return bytes(count)
        if not self._rest:
            self._rest = self._reader.take()
        part = bytes(self._rest[: min(most, self._data)])
        self._rest = self._rest[len(part) :]
        self._data -= len(part)
        return part


def _spans(sparse: Regions | None, size: int) -> Iterator[tuple[int, int]]:
    """(bytes of hole, bytes of data after it), in order, at least one pair."""
    if sparse is None:
        yield 0, size
        return
    last = 0
    for offset, length in sparse:
        yield offset - last, length
        last = offset + length
    yield size - last, 0


def clean_path(name: bytes) -> bytes:
    """``name`` relative to the root, with no empty, ``.`` or ``..`` component; ``..`` stops at the root.

    What containerd and umoci do: an absolute name or one that climbs out stays inside.
    """
    if (
        b"//" not in name
        and b"./" not in name
        and not name.startswith(b"/")
        and not name.endswith((b"/", b"."))
    ):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def _shown(name: bytes) -> str:
    return repr(name[:200].decode(errors="backslashreplace"))
