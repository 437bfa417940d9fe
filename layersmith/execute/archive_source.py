"""EXECUTE: what ADD of an archive puts into a directory. In: an `Archive`. Out: its entries as a tree to merge from.

An archive may name a path twice, children before parents, and paths through its own or the destination's symlinks.
So it is read once into a tree of names (bodies go to a scratch file, or stay in a plain tar) and written in order.
The destination is the root for whatever it holds: no name and no symlink leads out of it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from layersmith.dataclass import dataclass, field
from layersmith.errors import CopyError, HostileInputError, TransportError
from layersmith.execute.archive import BLOCK, Archive, Body
from layersmith.execute.scope import Verdict
from layersmith.execute.source import Child, Looks
from layersmith.execute.tree import MAX_LINKS
from layersmith.layer.entry import DIR, LNK, REG, SYM, Entry, Item

if TYPE_CHECKING:
    from layersmith.execute.destination import Destination


@dataclass(slots=True, eq=False)
class _Inode:
    """What one or more names of an archive stand for; ``body`` is bytes where it comes from the layers below."""

    entry: Entry
    body: Body | bytes | None = None
    written: bytes | None = None
    """Where it went, once it did."""


@dataclass(slots=True, eq=False)
class _Directory:
    """A directory of an archive; ``entry`` is None where it is only implied by what it holds."""

    entry: Entry | None = None
    names: dict[bytes, _Directory | _Inode] = field(default_factory=dict)


class ArchiveSource:
    """What archives put into ``destination``, one after the other; a `source.Contributor`."""

    replaces = True
    keeps_existing = False

    def __init__(self, destination: Destination, looks: Looks, scratch: Path | None = None) -> None:
        self._destination = destination
        self._owner = looks.owner
        self._top = _Directory()
        self._parents: dict[bytes, tuple[list[bytes], _Directory]] = {}
        """Directories that paths of the archive were found to lead to."""
        file = tempfile.TemporaryFile(dir=scratch, buffering=BLOCK)  # noqa: SIM115  (closed by close)
        self._scratch = cast(BinaryIO, file)

    def close(self) -> None:
        """Give up the scratch file."""
        self._scratch.close()

    def extract(self, archive: Archive) -> None:
        """Read ``archive``, which must stay open, on top of what is already here.

        Raises:
            CopyError: it is damaged, or holds what can't be unpacked.
            HostileInputError: it is larger than any limit.
        """
        try:
            for entry, body in archive.entries(self._scratch):
                if entry.path:  # the destination itself keeps its attributes
                    self._add(entry, body)
        except HostileInputError:
            raise
        except TransportError as error:
            raise CopyError(
                f'can\'t unpack "{archive.shown}": {error.message}',
                hint="--unpack=false copies it as a file",
            ) from error
        self._scratch.flush()

    def _add(self, entry: Entry, body: Body | None) -> None:
        parent, _, name = entry.path.rpartition(b"/")
        parts, directory = self._parent(parent)
        there = directory.names.get(name)
        if entry.kind == DIR:
            if not isinstance(there, _Directory):
                found = self._entry_at([*parts, name])
                if found is not None and found.kind == SYM:
                    # an archive's lib/ must not replace the lib that leads to usr/lib
                    followed = self._follow(entry.path)
                    last = self._entry_at(followed)
                    if not followed:
                        return
                    if last is not None and last.kind == DIR:
                        directory, name = self._descend(followed[:-1]), followed[-1]
            known = directory.names.get(name)
            if isinstance(known, _Directory):
                known.entry = entry
                return
        if there is not None or entry.kind == SYM:
            self._parents.clear()  # paths may lead elsewhere from now on
        if entry.kind == DIR:
            directory.names[name] = _Directory(entry)
        elif entry.kind == LNK:
            directory.names[name] = self._linked(entry)
        else:
            directory.names[name] = _Inode(entry, body)

    def _linked(self, entry: Entry) -> _Inode:
        """The inode that a hard link is a further name of."""
        parent, _, name = entry.link.rpartition(b"/")
        parts = [*self._follow(parent), name]
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
        return _Inode(below._replace(link=b"", size=len(data)), data)

    # Where paths lead

    def _parent(self, path: bytes) -> tuple[list[bytes], _Directory]:
        known = self._parents.get(path)
        if known is None:
            parts = self._follow(path)
            known = self._parents[path] = parts, self._descend(parts)
        return known

    def _descend(self, parts: list[bytes]) -> _Directory:
        """The directory at ``parts``, made if need be: what is in the way of it is replaced."""
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
        top = self._destination.path
        return self._destination.view.lookup(b"/".join((top, *parts)) if top else b"/".join(parts))

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

    def _follow(self, path: bytes) -> list[bytes]:
        """The components of ``path`` below the destination, all symlinks followed as if that were the root."""
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
            entry = self._entry_at([*real, part])
            if entry is None or entry.kind != SYM:
                real = [*real, part]
                continue
            links += 1
            if links > MAX_LINKS:
                raise CopyError(
                    f'the archive\'s "{os.fsdecode(path)}" leads through a loop of symbolic links'
                )
            if entry.link.startswith(b"/"):
                real = []
            todo.extend(entry.link.split(b"/")[::-1])
        return real

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
        return self._owned(directory.entry, path) if directory.entry is not None else None

    def item(self, directory: _Directory, child: Child, path: bytes) -> Item:
        inode: _Inode = child.handle
        entry = self._owned(inode.entry, path)
        if inode.written is not None:
            return entry._replace(kind=LNK, size=0, link=inode.written, xattrs=()), None
        inode.written = path
        return entry, inode.body.stream() if isinstance(inode.body, Body) else inode.body

    def _owned(self, entry: Entry, path: bytes) -> Entry:
        uid, gid = self._owner or (entry.uid, entry.gid)
        return Entry(path, entry.kind, entry.mode, uid, gid, *entry[5:])


def _verdict(node: _Directory | _Inode) -> Verdict:
    return Verdict.PASS if isinstance(node, _Directory) and node.entry is None else Verdict.KEEP
