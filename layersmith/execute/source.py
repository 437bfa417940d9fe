"""EXECUTE: what one source puts into a directory. In: `Selected`, `Inline`. Out: children by name, and their items.

A contributor is walked by `merge`, directory by directory, in step with the other sources of the same COPY.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from layersmith.errors import CopyError
from layersmith.execute.attributes import Chmod
from layersmith.execute.scope import Scope, Verdict
from layersmith.execute.selection import Inline, Selected
from layersmith.execute.tree import DIRECTORY, open_beneath
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Entry, Item

FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK: a fifo put in a file's place must not hang the build."""


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
        self.looks = looks
        self._name = os.fsencode(name if name is not None else selected.name)
        self.keeps_existing = selected.keep_existing
        self._keep_owners = selected.tree.tree.keep_owners
        self._names: dict[tuple[int, int], bytes] = {}
        """Where the content of a file with several names went."""

    def enter(self, directory: _OpenDirectory | None, child: Child | None) -> _OpenDirectory:
        if directory is None or child is None:
            found = self.selected.found
            path = found.path if found.is_dir else found.path.rpartition("/")[0]
            return _OpenDirectory(open_beneath(self.selected.tree.fd, path), self.selected.scope, path)
        name, scope, _ = child.handle
        try:
            fd = os.open(name, DIRECTORY, dir_fd=directory.fd)
        except OSError as error:
            raise self._unreadable(directory, name, error) from error
        return _OpenDirectory(fd, scope, f"{directory.path}/{name}")

    def leave(self, directory: _OpenDirectory) -> None:
        os.close(directory.fd)

    def children(self, directory: _OpenDirectory) -> list[Child]:
        found = self.selected.found
        if not found.is_dir:
            only = (found.path.rpartition("/")[2], None, stat.S_ISREG(found.stat.st_mode))
            return [Child(self._name, is_dir=False, verdict=Verdict.KEEP, handle=only)]
        scope = directory.scope
        verdict = Verdict.KEEP
        inner: Scope | None = None
        children = []
        with os.scandir(directory.fd) as entries:
            for entry in entries:
                name = entry.name
                is_dir = entry.is_dir(follow_symlinks=False)
                if scope is not None:
                    verdict, inner = scope.judge(name, is_dir=is_dir)
                    if verdict is Verdict.SKIP:
                        continue
                handle = (name, inner, entry.is_file(follow_symlinks=False))
                children.append(Child(os.fsencode(name), is_dir, verdict, handle))
        return children

    def entry(self, directory: _OpenDirectory, path: bytes) -> Entry:
        fd = directory.fd
        return self._entry(path, DIR, os.fstat(fd), xattrs=xattrs(fd))

    def item(self, directory: _OpenDirectory, child: Child, path: bytes) -> Item:
        name, _, is_file = child.handle
        try:
            if not is_file:
                status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                return self._special(directory, name, path, status), None
            fd = os.open(name, FILE, dir_fd=directory.fd)
        except OSError as error:
            raise self._unreadable(directory, name, error) from error
        try:
            entry = self._regular(directory, name, path, fd)
        except BaseException:
            os.close(fd)
            raise
        if entry.kind is REG:
            return entry, fd
        os.close(fd)
        return entry, None

    def _regular(self, directory: _OpenDirectory, name: str, path: bytes, fd: int) -> Entry:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CopyError(f'"{directory.path}/{name}" changed while it was copied', hint="build again")
        if status.st_nlink > 1:
            first = self._names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return self._entry(path, LNK, status, link=first)
        return self._entry(path, REG, status, size=status.st_size, xattrs=xattrs(fd))

    def _special(self, directory: _OpenDirectory, name: str, path: bytes, status: os.stat_result) -> Entry:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            target = os.readlink(os.fsencode(name), dir_fd=directory.fd)
            return self._entry(path, SYM, status, link=target)
        if kind == stat.S_IFSOCK:
            return self._entry(path, REG, status)
        if kind == stat.S_IFIFO:
            return self._entry(path, FIFO, status)
        number = status.st_rdev
        return self._entry(
            path, CHR if kind == stat.S_IFCHR else BLK, status, major=os.major(number), minor=os.minor(number)
        )

    def _entry(
        self,
        path: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        major: int = 0,
        minor: int = 0,
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Entry:
        mode = status.st_mode & 0o7777
        looks = self.looks
        if looks.chmod is not None and kind is not SYM:
            mode = looks.chmod(mode, is_dir=kind is DIR)
        uid, gid = looks.owner or ((status.st_uid, status.st_gid) if self._keep_owners else (0, 0))
        return Entry(
            path, kind, mode, uid, gid, status.st_mtime_ns // 1_000_000_000, size, link, major, minor, xattrs
        )

    def _unreadable(self, directory: _OpenDirectory, name: str, error: OSError) -> CopyError:
        path = f"{directory.path}/{name}".lstrip("/")
        label = self.selected.tree.tree.label
        return CopyError(f'can\'t read "{path}" of {label}: {error.strerror}', hint="is it readable for you?")


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


def in_layer(xattr: str) -> bool:
    """Whether an extended attribute belongs into a layer (REFERENCE: xattrs in layers)."""
    if xattr.startswith("user."):
        return not xattr.startswith("user.overlay.")
    return xattr == "security.capability" or xattr.startswith("system.posix_acl_")


def xattrs(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes of an open file that belong into a layer, sorted by name."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return ()
    if not names:
        return ()
    kept = []
    for name in sorted(filter(in_layer, names)):
        # gone meanwhile, or not ours to read: as in BuildKit, not worth a failed build
        with suppress(OSError):
            kept.append((os.fsencode(name), os.getxattr(fd, name)))
    return tuple(kept)
