"""Items to files below a directory whose content is somebody else's. In: `Item`s. Out: files, none of them outside.

Every parent is looked up inside the root (`linux.rooted`), and nothing at the end of a path is ever followed. Existing
files are replaced, existing directories added to, and neither takes the other's place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterable

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Content, Entry, Item
from layersmith.linux.rooted import open_in_root, open_parent_in_root
from layersmith.store.files import write_all

_BLOCK = 1 << 20
_NODES = {CHR: stat.S_IFCHR, BLK: stat.S_IFBLK, FIFO: stat.S_IFIFO}


@dataclass(frozen=True, slots=True)
class Manner:
    """``owner``: keep owners; else all belongs to the caller. ``privileges``: keep set-id bits and capabilities."""

    owner: bool = False
    privileges: bool = False


def receive(items: Iterable[Item], root: int, base: str, manner: Manner) -> None:
    """Write ``items`` below the directory ``base`` of the directory that the descriptor ``root`` refers to.

    Raises UsageError for a file where there is a directory, or the reverse, and for what the kernel refuses.
    """
    receiver = _Receiver(root, os.fsencode(base), manner)
    try:
        for entry, content in items:
            receiver.add(entry, content)
        receiver.finish()
    finally:
        receiver.close()


class _Receiver:
    def __init__(self, root: int, base: bytes, manner: Manner) -> None:
        self._root = root
        self._base = base
        self._manner = manner
        self._parent: tuple[bytes, int] | None = None
        self._directories: list[Entry] = []

    def add(self, entry: Entry, content: Content) -> None:
        try:
            if entry.path:
                self._add(entry, content)
        except OSError as error:
            shown = os.fsdecode(posixpath.join(self._base, entry.path))
            raise UsageError(f"can't write {shown}: {error.strerror}", hint=_hint(error)) from None

    def _add(self, entry: Entry, content: Content) -> None:
        parent, name = self._open_parent(entry.path)
        there = _kind(parent, name)
        if entry.kind == DIR:
            if there is None:
                os.mkdir(name, 0o700, dir_fd=parent)
            elif there != stat.S_IFDIR:
                raise OSError(errno.ENOTDIR, "there is a file, not a directory")
            self._directories.append(entry)
            return
        if there == stat.S_IFDIR:
            raise OSError(errno.EISDIR, "there is a directory of that name")
        if there is not None:
            os.unlink(name, dir_fd=parent)
        if entry.kind == REG:
            self._write(entry, content, parent, name)
            return
        if entry.kind == LNK:
            self._link(entry, parent, name)
            return
        if entry.kind == SYM:
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            device = os.makedev(entry.major, entry.minor)
            os.mknod(name, _NODES[entry.kind] | 0o600, device, dir_fd=parent)
        self._finish_node(entry, parent, name)

    def _open_parent(self, path: bytes) -> tuple[int, bytes]:
        directory, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "it has no name")
        if self._parent is None or self._parent[0] != directory:
            self.close()
            self._parent = directory, self._open_directory(directory)
        return self._parent[1], name

    def _open_directory(self, path: bytes) -> int:
        """``path`` below the base; an archive need not have entries for all its directories."""
        full = posixpath.join(self._base, path)
        try:
            return open_in_root(self._root, full, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            if not path:
                raise
        os.close(self._open_directory(path.rpartition(b"/")[0]))
        parent, name = open_parent_in_root(self._root, full)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return open_in_root(self._root, full, os.O_PATH | os.O_DIRECTORY)

    def _write(self, entry: Entry, content: Content, parent: int, name: bytes) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            _copy_content(content, file)
            self._set_owner(entry, file)
            os.fchmod(file, self._mode(entry))
            self._set_xattrs(entry, file)
            _set_mtime(entry, file)
        finally:
            os.close(file)

    def _link(self, entry: Entry, parent: int, name: bytes) -> None:
        target, target_name = open_parent_in_root(self._root, posixpath.join(self._base, entry.link))
        try:
            os.link(target_name, name, src_dir_fd=target, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(target)

    def _finish_node(self, entry: Entry, parent: int, name: bytes) -> None:
        if self._manner.owner:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != SYM:
            # By way of a descriptor: a running container could put a symlink in its place, which chmod would follow.
            node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                if not stat.S_ISLNK(os.fstat(node).st_mode):
                    os.chmod(f"/proc/self/fd/{node}", self._mode(entry))
            finally:
                os.close(node)
        times = (entry.mtime * 1_000_000_000,) * 2
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Directories last, the deepest first: writing into them changes their times, and may need their w bit."""
        for entry in reversed(self._directories):
            try:
                directory = open_in_root(
                    self._root,
                    posixpath.join(self._base, entry.path),
                    os.O_RDONLY | os.O_DIRECTORY,
                    follow=False,
                )
            except OSError:
                continue  # the container itself has removed it
            try:
                self._set_owner(entry, directory)
                os.fchmod(directory, self._mode(entry))
                self._set_xattrs(entry, directory)
                _set_mtime(entry, directory)
            finally:
                os.close(directory)

    def _mode(self, entry: Entry) -> int:
        return entry.mode if self._manner.privileges else entry.mode & ~(stat.S_ISUID | stat.S_ISGID)

    def _set_owner(self, entry: Entry, fd: int) -> None:
        if self._manner.owner:
            os.fchown(fd, entry.uid, entry.gid)

    def _set_xattrs(self, entry: Entry, fd: int) -> None:
        for name, value in entry.xattrs:
            if self._manner.privileges or name.startswith(b"user."):
                # Not every file system takes them, and not every user may set them.
                with contextlib.suppress(OSError):
                    os.setxattr(fd, name, value)

    def close(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None


def _copy_content(content: Content, file: int) -> None:
    if isinstance(content, bytes):
        write_all(file, content)
    elif isinstance(content, int):
        while data := os.read(content, _BLOCK):
            write_all(file, data)
    elif content is not None:
        while data := content.read(_BLOCK):
            write_all(file, data)


def _set_mtime(entry: Entry, fd: int) -> None:
    os.utime(fd, ns=(entry.mtime * 1_000_000_000,) * 2)


def _kind(parent: int, name: bytes) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _hint(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "the container's root file system, or a mount in it, is read-only"
    if error.errno == errno.EBUSY:
        return "it is a mount point: change it on the other side"
    return ""
