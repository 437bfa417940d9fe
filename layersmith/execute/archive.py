"""EXECUTE: archives, for ADD and for contexts. In: a file, perhaps compressed. Out: a tar's entries and their bodies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from layersmith.dataclass import dataclass
from layersmith.errors import CopyError, TransportError
from layersmith.execute.selection import Selected, is_regular
from layersmith.execute.tree import FILE, open_beneath
from layersmith.layer.compress import decompress
from layersmith.layer.entry import REG, Entry, Readable
from layersmith.layer.tar.header import BLOCK as HEADER
from layersmith.layer.tar.header import Regions, parse_header
from layersmith.layer.tar.reader import TarReader, pieces

BLOCK = 1 << 20
MAX_ENTRIES = 10_000_000
MAX_SIZE = 1 << 40


class Archive:
    """An open archive file, known to hold a tar."""

    def __init__(self, fd: int, shown: str) -> None:
        self.fd = fd
        self.shown = shown

    def entries(self, scratch: BinaryIO) -> Iterator[tuple[Entry, Body | None]]:
        """The tar's entries, and where a REG's content lies: in the archive if it is a plain tar, else in ``scratch``.

        What is decompressed is appended to ``scratch``, which must be flushed before a body is read.
        """
        plain = decompress(_FromStart(self.fd))
        if plain.algorithm == "none":
            fd, base, blocks = self.fd, 0, pieces(plain)
        else:
            fd, base, blocks = scratch.fileno(), scratch.tell(), _kept(pieces(plain), scratch)
        reader = TarReader(blocks, max_size=MAX_SIZE, max_entries=MAX_ENTRIES)
        for entry in reader:
            yield (
                entry,
                Body(fd, base + reader.offset, entry.size, reader.sparse) if entry.kind == REG else None,
            )

    def close(self) -> None:
        os.close(self.fd)


def _kept(blocks: Iterator[bytes], scratch: BinaryIO) -> Iterator[bytes]:
    for block in blocks:
        scratch.write(block)
        yield block


def open_archive(selected: Selected) -> Archive | None:
    """The archive that ``selected`` is, by its content (tar, plain or in gzip, bzip2, xz or zstd); None if it is none."""
    if not is_regular(selected.found) or selected.found.stat.st_size == 0:
        return None
    parent, _, name = selected.found.path.rpartition("/")
    directory = open_beneath(selected.tree.fd, parent)
    try:
        archive = Archive(os.open(name, FILE, dir_fd=directory), selected.shown)
    except OSError as error:
        raise CopyError(f'can\'t read "{selected.shown}": {error.strerror}') from error
    finally:
        os.close(directory)
    if _starts_with_a_header(archive.fd):
        return archive
    archive.close()
    return None


def _starts_with_a_header(fd: int) -> bool:
    """Whether a tar begins there. What comes later may be damaged: that is to be an error, not a file to copy."""
    plain = decompress(_FromStart(fd))
    block = b""
    with suppress(TransportError):
        while len(block) < HEADER and (data := plain.read(HEADER - len(block))):
            block += data
        return len(block) == HEADER and parse_header(block) is not None
    return False


class _FromStart:
    """A file's bytes from its start, whatever else reads from the same descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._offset = 0

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, size, self._offset)
        self._offset += len(data)
        return data


@dataclass(frozen=True, slots=True)
class Body:
    """A file's content: ``size`` bytes at ``offset`` of the file ``fd``, or there the data of its ``sparse`` regions."""

    fd: int
    offset: int
    size: int
    sparse: Regions | None

    def stream(self) -> Readable:
        """The content, to be read once."""
        return _Stream(self)


class _Stream:
    """Reads a `Body`, the holes filled with zeros."""

    def __init__(self, body: Body) -> None:
        self._fd, self._offset = body.fd, body.offset
        self._at, self._size = 0, body.size
        self._regions = list(reversed(body.sparse)) if body.sparse is not None else [(0, body.size)]

    def read(self, size: int, /) -> bytes:
        while self._regions and self._at >= sum(self._regions[-1]):
            self._regions.pop()
        start, length = self._regions[-1] if self._regions else (self._size, 0)
        if self._at < start:
            hole = bytes(min(size, start - self._at, BLOCK))
            self._at += len(hole)
            return hole
        data = os.pread(self._fd, min(size, start + length - self._at), self._offset)
        self._offset += len(data)
        self._at += len(data)
        return data
