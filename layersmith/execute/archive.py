"""EXECUTE: ADD of an archive. In: an archive file, perhaps compressed. Out: its entries as a tree to merge from.

An archive may name a path twice, children before parents, and paths through its own or the destination's symlinks.
So it is read once into a tree of names (bodies go to a scratch file, or stay in a plain tar), and written in order.
The destination is the root for whatever it holds: no name and no symlink leads out of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.errors import CopyError, HostileInputError, TransportError
from layersmith.execute.scope import Verdict
from layersmith.execute.selection import Selected, is_regular
from layersmith.execute.source import Child, Looks
from layersmith.execute.tree import FILE, MAX_LINKS, open_beneath
from layersmith.layer.compress import decompress
from layersmith.layer.entry import DIR, LNK, REG, SYM, Entry, Item
from layersmith.layer.tar import read_tar
from layersmith.layer.tar.header import BLOCK as HEADER
from layersmith.layer.tar.header import parse_header

if TYPE_CHECKING:
    from layersmith.execute.destination import Destination
    from layersmith.layer.entry import Readable

BLOCK = 1 << 20
MAX_ENTRIES = 10_000_000
MAX_SIZE = 1 << 40


class Archive:
    """An open archive file, known to hold a tar."""

    def __init__(self, fd: int, shown: str) -> None:
        self.fd = fd
        self.shown = shown

    def entries(self) -> Iterator[tuple[Entry, Readable | None]]:
        """The tar's entries, from the start."""
        return read_tar(decompress(_FromStart(self.fd)), max_size=MAX_SIZE, max_entries=MAX_ENTRIES)

    def close(self) -> None:
        os.close(self.fd)


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


@dataclass(slots=True, eq=False)
class _Inode:
    """What one or more names of an archive stand for."""

    entry: Entry
    offset: int = 0
    """Of a REG's body in the scratch file."""
    written: bytes | None = None
    """Where it went, once it did."""
    data: bytes | None = None
    """The body, where it comes from the layers below."""


@dataclass(slots=True, eq=False)
class _Directory:
    """A directory of an archive; ``entry`` is None where it is only implied by what it holds."""

    entry: Entry | None = None
    names: dict[bytes, _Directory | _Inode] = field(default_factory=dict)


class _Slice:
    """A part of the scratch file, as a stream."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._left = fd, offset, size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data


class ArchiveSource:
    """What archives put into ``destination``, one after the other; a `source.Contributor`."""

    replaces = True
    keeps_existing = False

    def __init__(self, destination: Destination, looks: Looks, scratch: Path | None = None) -> None:
        self._destination = destination
        self._looks = looks
        self._top = _Directory()
        self._bodies = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115  (closed by close)

    def close(self) -> None:
        """Give up the scratch file."""
        self._bodies.close()

    def extract(self, archive: Archive) -> None:
        """Read ``archive`` on top of what is already here.

        Raises:
            CopyError: it is damaged, or holds what can't be unpacked.
            HostileInputError: it is larger than any limit.
        """
        try:
            for entry, body in archive.entries():
                self._add(entry, body)
        except HostileInputError:
            raise
        except TransportError as error:
            raise CopyError(
                f'can\'t unpack "{archive.shown}": {error.message}',
                hint="--unpack=false copies it as a file",
            ) from error

    def _add(self, entry: Entry, body: Readable | None) -> None:
        if not entry.path:
            return  # the destination itself keeps its attributes
        parts = self._resolve(entry.path, follow_last=entry.kind == DIR)
        if not parts:
            return
        directory = self._descend(parts[:-1])
        name = parts[-1]
        entry = self._owned(entry)
        if entry.kind == DIR:
            existing = directory.names.get(name)
            if isinstance(existing, _Directory):
                existing.entry = entry
            else:
                directory.names[name] = _Directory(entry)
        elif entry.kind == LNK:
            directory.names[name] = self._linked(entry)
        else:
            directory.names[name] = _Inode(entry, self._keep(body) if body is not None else 0)

    def _owned(self, entry: Entry) -> Entry:
        uid, gid = self._looks.owner or (entry.uid, entry.gid)
        return entry._replace(uid=uid, gid=gid)

    def _keep(self, body: Readable) -> int:
        offset = self._bodies.tell()
        while data := body.read(BLOCK):
            view = memoryview(data)
            while view:
                view = view[self._bodies.write(view) :]
        return offset

    def _linked(self, entry: Entry) -> _Inode:
        """The inode that a hard link is a further name of."""
        parts = self._resolve(entry.link, follow_last=False)
        node = self._peek(parts)
        if isinstance(node, _Inode):
            return node
        below = None if node is not None else self._below(parts)
        if below is None or below.kind != REG:
            raise CopyError(
                f'the archive\'s "{os.fsdecode(entry.path)}" is a hard link of "{os.fsdecode(entry.link)}", '
                "which is no file"
            )
        data = self._destination.view.read(below.path, limit=1 << 30)
        return _Inode(self._owned(below._replace(link=b"", size=len(data))), data=data)

    def _descend(self, parts: list[bytes]) -> _Directory:
        directory = self._top
        for part in parts:
            node = directory.names.get(part)
            if not isinstance(node, _Directory):
                node = directory.names[part] = _Directory()
            directory = node
        return directory

    def _peek(self, parts: list[bytes]) -> _Directory | _Inode | None:
        node: _Directory | _Inode | None = self._top
        for part in parts:
            if not isinstance(node, _Directory):
                return None
            node = node.names.get(part)
        return node

    def _below(self, parts: list[bytes]) -> Entry | None:
        """What the layers below have, unless something of the archive hides it."""
        node: _Directory | _Inode | None = self._top
        for part in parts:
            node = node.names.get(part) if isinstance(node, _Directory) else None
            if isinstance(node, _Inode):
                return None
        path = b"/".join((self._destination.path, *parts)) if self._destination.path else b"/".join(parts)
        return self._destination.view.lookup(path)

    def _resolve(self, path: bytes, *, follow_last: bool) -> list[bytes]:
        """The components of ``path`` below the destination, symlinks followed as if it were the root.

        A link at the end is followed only to a directory, so that an archive's ``lib/`` does not replace ``lib``
        that leads to ``usr/lib``.
        """
        todo = path.split(b"/")[::-1]
        real: list[bytes] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                real = real[:-1]
                continue
            here = [*real, part]
            entry = self._entry_at(here)
            if entry is None or entry.kind == DIR or (not todo and not follow_last):
                real = here
                continue
            if entry.kind != SYM:
                real = here  # a file in the way of a directory is replaced
                continue
            links += 1
            if links > MAX_LINKS:
                raise CopyError(
                    f'the archive\'s "{os.fsdecode(path)}" leads through a loop of symbolic links'
                )
            target = entry.link.split(b"/")[::-1]
            base = [] if entry.link.startswith(b"/") else real
            if not todo:
                followed = self._resolve(b"/".join((*base, *reversed(target))), follow_last=False)
                last = self._entry_at(followed)
                return followed if not followed or (last is not None and last.kind == DIR) else here
            real = base
            todo.extend(target)
        return real

    def _entry_at(self, parts: list[bytes]) -> Entry | None:
        node = self._peek(parts)
        if isinstance(node, _Inode):
            return node.entry
        if isinstance(node, _Directory) and node.entry is not None:
            return node.entry
        below = self._below(parts)
        if isinstance(node, _Directory) and (below is None or below.kind != DIR):
            return Entry(b"", DIR)
        return below

    # What merge asks

    def enter(self, directory: _Directory | None, child: Child | None) -> _Directory:
        return self._top if child is None else child.handle

    def leave(self, directory: _Directory) -> None:
        pass

    def children(self, directory: _Directory) -> list[Child]:
        return [
            Child(name, isinstance(node, _Directory), _verdict(node), node)
            for name, node in directory.names.items()
        ]

    def entry(self, directory: _Directory, path: bytes) -> Entry | None:
        return directory.entry._replace(path=path) if directory.entry is not None else None

    def item(self, directory: _Directory, child: Child, path: bytes) -> Item:
        inode: Any = child.handle
        entry = inode.entry._replace(path=path)
        if inode.written is not None:
            return entry._replace(kind=LNK, size=0, link=inode.written, xattrs=()), None
        inode.written = path
        if entry.kind != REG:
            return entry, None
        if inode.data is not None:
            return entry, inode.data
        return entry, _Slice(self._bodies.fileno(), inode.offset, entry.size)


def _verdict(node: _Directory | _Inode) -> Verdict:
    return Verdict.PASS if isinstance(node, _Directory) and node.entry is None else Verdict.KEEP
