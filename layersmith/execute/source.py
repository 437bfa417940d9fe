"""EXECUTE: what one source puts into a directory. In: `Selected`, `Inline`. Out: children by name, and their items.

A contributor is walked by `merge`, directory by directory, in step with the other sources of the same COPY.
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple, Protocol

from layersmith.buildfile.chmod import Chmod
from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.scope import Scope, Verdict
from layersmith.execute.selection import Inline, Selected
from layersmith.execute.tree import open_beneath
from layersmith.layer.entry import DIR, REG, SYM, Entry, Item
from layersmith.layer.files import Files


class Child(NamedTuple):
    """A name in a directory of a contributor; ``handle`` is the contributor's own."""

    name: bytes
    is_dir: bool
    verdict: Verdict
    handle: Any


@dataclass(frozen=True, slots=True)
class Looks:
    """What flags say of every copied file: an owner or None, a mode or None, and the time of what we make ourselves."""

    owner: tuple[int, int] | None
    chmod: Chmod | None
    now: int

    def made_directory(self, path: bytes) -> Entry:
        """A directory that no source has: created on the way to the destination."""
        uid, gid = self.owner or (0, 0)
        return Entry(path, DIR, self.chmod.parents if self.chmod else 0o755, uid, gid, self.now)


class Contributor(Protocol):
    """A source, as seen by `merge`. Directories are opened and closed strictly nested."""

    replaces: bool
    """Whether its entries take the place of what is there, whatever its type (archives); else that is an error."""
    keeps_existing: bool
    """Whether directories that are there already keep their owner and times."""

    def enter(self, directory: Any, child: Child | None) -> Any:
        """Open the directory ``child`` of the open ``directory``; None is the top."""

    def leave(self, directory: Any) -> None:
        """Close it."""

    def children(self, directory: Any) -> list[Child]:
        """What is in it, in any order."""

    def entry(self, directory: Any, path: bytes) -> Entry | None:
        """The entry at ``path`` for the open ``directory``; None if it only leads to something, and has no attributes."""

    def item(self, directory: Any, child: Child, path: bytes) -> Item:
        """The item at ``path`` for a child that is no directory. A descriptor in it is the caller's to close."""


@dataclass(slots=True)
class _OpenDirectory:
    fd: int
    scope: Scope | None
    path: str


class FileSource:
    """A file or the content of a directory of a tree on disk."""

    replaces = False

    def __init__(self, selected: Selected, looks: Looks, *, name: str | None = None) -> None:
        """``name`` is what a file is called, if not as its source."""
        self.selected = selected
        self.keeps_existing = selected.keep_existing
        self._name = os.fsencode(name if name is not None else selected.name)
        self._files = Files()
        keep = selected.tree.tree.keep_owners and looks.owner is None
        self._owner = None if keep else looks.owner or (0, 0)
        self._chmod = looks.chmod

    def enter(self, directory: _OpenDirectory | None, child: Child | None) -> _OpenDirectory:
        if directory is None or child is None:
            found = self.selected.found
            path = found.path if found.is_dir else found.path.rpartition("/")[0]
            return _OpenDirectory(open_beneath(self.selected.tree.fd, path), self.selected.scope, path)
        entry, scope = child.handle
        try:
            fd = self._files.open_directory(entry.name, directory.fd)
        except OSError as error:
            raise self._unreadable(directory, child, error) from error
        return _OpenDirectory(fd, scope, f"{directory.path}/{entry.name}")

    def leave(self, directory: _OpenDirectory) -> None:
        os.close(directory.fd)

    def children(self, directory: _OpenDirectory) -> list[Child]:
        keep = Verdict.KEEP
        if not self.selected.found.is_dir:
            only = _OneFile(self.selected.found.path.rpartition("/")[2], self.selected.found.stat)
            return [Child(self._name, is_dir=False, verdict=keep, handle=(only, None))]
        scope = directory.scope
        with os.scandir(directory.fd) as entries:
            if scope is None:
                return [
                    Child(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False), keep, (entry, None))
                    for entry in entries
                ]
            children = []
            for entry in entries:
                is_dir = entry.is_dir(follow_symlinks=False)
                verdict, inner = scope.judge(entry.name, is_dir=is_dir)
                if verdict is not Verdict.SKIP:
                    children.append(Child(os.fsencode(entry.name), is_dir, verdict, (entry, inner)))
            return children

    def entry(self, directory: _OpenDirectory, path: bytes) -> Entry:
        return self._dressed(self._files.directory(directory.fd, path)[0])

    def item(self, directory: _OpenDirectory, child: Child, path: bytes) -> Item:
        found = child.handle[0]
        try:
            if found.is_file(follow_symlinks=False):
                entry, content = self._files.regular(found.name, directory.fd, path)
                return self._dressed(entry), content
            status = os.stat(found.name, dir_fd=directory.fd, follow_symlinks=False)
            other = self._files.other(found.name, directory.fd, path, status)
        except OSError as error:
            raise self._unreadable(directory, child, error) from error
        if other is None:  # a socket becomes an empty file, as in BuildKit
            seconds = status.st_mtime_ns // 1_000_000_000
            other = Entry(path, REG, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, seconds)
        return self._dressed(other), None

    def _dressed(self, entry: Entry) -> Entry:
        """``entry`` with what the flags say. Made anew: `_replace` takes twice as long."""
        path, kind, mode, uid, gid, mtime, size, link, major, minor, xattrs = entry
        if self._owner is not None:
            uid, gid = self._owner
        if self._chmod is not None and kind != SYM:
            mode = self._chmod(mode, is_dir=kind == DIR)
        return Entry(path, kind, mode, uid, gid, mtime, size, link, major, minor, xattrs)

    def _unreadable(self, directory: _OpenDirectory, child: Child, error: OSError) -> CopyError:
        path = f"{directory.path}/{child.handle[0].name}".lstrip("/")
        label = self.selected.tree.tree.label
        return CopyError(f'can\'t read "{path}" of {label}: {error.strerror}', hint="is it readable for you?")


@dataclass(frozen=True, slots=True)
class _OneFile:
    """As much of an os.DirEntry as a source that is a file needs."""

    name: str
    stat: os.stat_result

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return stat.S_ISREG(self.stat.st_mode)


class InlineFile:
    """A heredoc: one file, 0644."""

    replaces = False
    keeps_existing = False

    def __init__(self, inline: Inline, looks: Looks, *, name: str | None = None) -> None:
        self.inline = inline
        self.looks = looks
        self._name = os.fsencode(name if name is not None else inline.name)

    def enter(self, directory: None, child: Child | None) -> None:
        return None

    def leave(self, directory: None) -> None:
        return None

    def children(self, directory: None) -> list[Child]:
        return [Child(self._name, is_dir=False, verdict=Verdict.KEEP, handle=None)]

    def entry(self, directory: None, path: bytes) -> Entry | None:
        return None

    def item(self, directory: None, child: Child, path: bytes) -> Item:
        uid, gid = self.looks.owner or (0, 0)
        mode = self.looks.chmod(0o644, is_dir=False) if self.looks.chmod else 0o644
        data = self.inline.data
        return Entry(path, REG, mode, uid, gid, self.looks.now, len(data)), data
