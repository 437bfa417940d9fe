"""Where exports go: a directory, or a tar. In: named bytes and blobs. Out: files, complete or not there at all.

The same input gives the same bytes: names come in the order of the caller, times are the epoch, owners are root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from layersmith.errors import TransportError
from layersmith.layer.entry import DIR, REG, Content, Entry, Readable
from layersmith.layer.tar import PIECE, TarWriter
from layersmith.oci.descriptor import Descriptor
from layersmith.store import Store


class Sink(Protocol):
    """Takes files by name; parents are made as needed."""

    def data(self, path: str, data: bytes) -> None:
        """A small file. In a directory it replaces one that is there."""
        ...

    def blob(self, path: str, store: Store, descriptor: Descriptor) -> None:
        """A blob of ``store``, verified on its way out. A directory keeps one that is there."""
        ...


class DirectorySink:
    """Files below a directory, which is made. Each appears whole, under its name, by a rename."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def data(self, path: str, data: bytes) -> None:
        with self._placed(path) as file:
            file.write(data)

    def blob(self, path: str, store: Store, descriptor: Descriptor) -> None:
        target = self._root / path
        if target.is_file() and target.stat().st_size == descriptor.size:
            return
        with store.blobs.open(descriptor) as reader, self._placed(path) as file:
            while piece := reader.read(PIECE):
                file.write(piece)

    @contextlib.contextmanager
    def _placed(self, path: str) -> Iterator[BinaryIO]:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb", buffering=0) as file:
                yield file
            temporary.rename(target)
        except OSError as error:
            raise TransportError(f"can't write {target}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)


class TarSink:
    """Files in a tar. Close it to write the end mark."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = memoryview(bytearray(PIECE))
        self._tar = TarWriter(self._emit, self._buffer)
        self._directories: set[str] = set()

    def _emit(self, buffer: memoryview, length: int) -> memoryview:
        rest = buffer[:length]
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BrokenPipeError:
            raise  # the reader of a stream has had enough (`| head`): the command line knows what to do
        except OSError as error:
            raise TransportError(f"can't write the archive: {error.strerror}") from error
        return buffer

    def data(self, path: str, data: bytes) -> None:
        self._parents(path)
        self._tar.add(Entry(os.fsencode(path), REG, 0o644, size=len(data)), data)

    def blob(self, path: str, store: Store, descriptor: Descriptor) -> None:
        self._parents(path)
        with store.blobs.open(descriptor) as reader:
            self._tar.add(Entry(os.fsencode(path), REG, 0o644, size=descriptor.size), reader)

    def stream(self, path: str, size: int, content: Readable) -> None:
        """A file of ``size`` bytes."""
        self._parents(path)
        self._tar.add(Entry(os.fsencode(path), REG, 0o644, size=size), content)

    def entry(self, entry: Entry, content: Content) -> None:
        """An entry as it is."""
        self._tar.add(entry, content)

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self._directories:
            self._parents(parent)
            self._directories.add(parent)
            self._tar.add(Entry(os.fsencode(parent), DIR, 0o755))

    def close(self) -> None:
        self._tar.close()


@contextlib.contextmanager
def output_file(dest: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file to write an archive to: ``dest`` appears when the block ends well, and is untouched if it does not.

    An open stream, or a ``dest`` that is a pipe or device, is written to directly.

    Raises:
        TransportError: it can't be written.
    """
    if not isinstance(dest, Path):
        yield dest
        return
    if dest.is_dir():
        raise TransportError(f"can't write {dest}: it is a directory", hint="give the name of a file")
    try:
        special = dest.exists() and not stat.S_ISREG(dest.stat().st_mode)
        target = dest if special else dest.with_name(f".{dest.name}.{os.getpid()}")
        with target.open("wb", buffering=0) as file:
            try:
                yield file
            except BaseException:
                if not special:
                    target.unlink()
                raise
        if not special:
            target.rename(dest)
    except OSError as error:
        raise TransportError(f"can't write {dest}: {error.strerror}") from error
