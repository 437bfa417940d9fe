"""Named files that images are loaded from: a directory, or a tar. In: a path or a stream. Out: bytes by name.

Both are hostile: a directory's symlinks stay inside it, a tar is only ever read by offset, never unpacked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from layersmith.errors import TransportError
from layersmith.layer.compress import decompress
from layersmith.layer.entry import LNK, REG, SYM
from layersmith.layer.tar import TarReader
from layersmith.store import Store
from layersmith.store.files import storing, write_all

_PIECE = 1 << 20
_MAX_LINKS = 10
_MAX_ENTRIES = 200_000


class Files(Protocol):
    """Regular files by name (relative, ``/`` between components). Names that are no regular file do not exist."""

    name: str

    def size(self, path: str) -> int | None:
        """Bytes, or None if there is no such file."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content in pieces. Raises TransportError if there is no such file."""
        ...

    def close(self) -> None: ...


def read_file(files: Files, path: str, *, limit: int) -> bytes:
    """A whole small file. Raises TransportError if it is missing or longer than ``limit`` bytes."""
    size = files.size(path)
    if size is None:
        raise TransportError(f"{files.name}: {path} is missing")
    if size > limit:
        raise TransportError(f"{files.name}: {path} has {size} bytes", hint=f"at most {limit} are read")
    return b"".join(files.chunks(path))


def open_files(store: Store, source: Path | BinaryIO) -> Files:
    """The files in a directory or tar; a tar may be compressed, and ``source`` may be a stream that can't seek.

    Raises:
        TransportError: it can't be read, or is neither.
    """
    if not isinstance(source, Path):
        return _spooled(store, source, "<stdin>")
    try:
        if source.is_dir():
            return DirectoryFiles(source)
        with source.open("rb", buffering=0) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and not _compressed(file.fileno()):
                return TarFiles(os.dup(file.fileno()), str(source))
            return _spooled(store, file, str(source))
    except OSError as error:
        raise TransportError(f"can't read {source}: {error.strerror}") from error


def _compressed(fd: int) -> bool:
    """Whether the file is not a plain tar, whose magic is at 257. (V7 tars have none; docker never wrote those.)"""
    return os.pread(fd, 5, 257) != b"ustar"


def _spooled(store: Store, stream: BinaryIO, name: str) -> TarFiles:
    path = store.session.new_path("archive")
    plain = decompress(stream)
    with path.open("x+b", buffering=0) as file:
        path.unlink()
        with storing(path):
            while piece := plain.read(_PIECE):
                write_all(file.fileno(), piece)
        return TarFiles(os.dup(file.fileno()), name)


class DirectoryFiles:
    """Files below a directory."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def size(self, path: str) -> int | None:
        fd = self._open(path)
        if fd is None:
            return None
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def chunks(self, path: str) -> Iterator[bytes]:
        fd = self._open(path)
        if fd is None:
            raise TransportError(f"{self.name}: {path} is missing")
        try:
            while piece := os.read(fd, _PIECE):
                yield piece
        finally:
            os.close(fd)

    def _open(self, path: str) -> int | None:
        from layersmith.linux.rooted import open_in_root

        try:
            fd = open_in_root(self._fd, path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TarFiles:
    """Files in a plain tar that can seek; takes over ``fd``. Links of either kind within the tar are followed."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        self._spans: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            self._scan()
        except BaseException as error:
            self.close()
            if isinstance(error, TransportError):
                raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
            raise

    def _scan(self) -> None:
        reader = TarReader(self._pieces(), max_entries=_MAX_ENTRIES)
        for entry in reader:
            path = os.fsdecode(entry.path)
            self._spans.pop(path, None)
            self._links.pop(path, None)
            if entry.kind == REG and reader.sparse is None:
                self._spans[path] = (reader.offset, entry.size)
            elif entry.kind == LNK:
                self._links[path] = os.fsdecode(entry.link)
            elif entry.kind == SYM:
                target = os.fsdecode(entry.link)
                self._links[path] = os.path.normpath(f"/{path}/../{target}").lstrip("/")

    def _pieces(self) -> Iterator[bytes]:
        position = 0
        while piece := os.pread(self._fd, _PIECE, position):
            position += len(piece)
            yield piece

    def _find(self, path: str) -> tuple[int, int] | None:
        for _ in range(_MAX_LINKS):
            if path in self._spans:
                return self._spans[path]
            if path not in self._links:
                return None
            path = self._links[path]
        return None

    def size(self, path: str) -> int | None:
        found = self._find(path)
        return None if found is None else found[1]

    def chunks(self, path: str) -> Iterator[bytes]:
        found = self._find(path)
        if found is None:
            raise TransportError(f"{self.name}: {path} is missing")
        position, left = found
        while left:
            piece = os.pread(self._fd, min(left, _PIECE), position)
            if not piece:
                raise TransportError(f"{self.name} is cut short in {path}")
            position += len(piece)
            left -= len(piece)
            yield piece

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
