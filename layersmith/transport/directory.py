"""Items to files in a directory, for ``type=local``. In: the `Item`s of one merged tree. Out: files.

The directory may hold files already, also those of an earlier and hostile image: no symlink in it is ever followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from layersmith.errors import TransportError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Content, Entry, Item

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL})
_DEVICES = {CHR: stat.S_IFCHR, BLK: stat.S_IFBLK}


def write_directory(root: Path, items: Iterable[Item]) -> tuple[str, ...]:
    """Write ``items`` below ``root``, which is made; what is in the way is replaced, other files stay.

    Owners, devices and extended attributes are kept as far as the kernel allows this process; the paths where it did
    not allow a device are returned.

    Raises:
        TransportError: a file can't be written.
    """
    writer = _Writer(root)
    try:
        for entry, content in items:
            try:
                writer.add(entry, content)
            except OSError as error:
                raise TransportError(
                    f"can't write {root}/{os.fsdecode(entry.path)}: {error.strerror}"
                ) from error
        writer.finish()
    finally:
        writer.close()
    return tuple(writer.refused)


class _Writer:
    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TransportError(f"can't write to {root}: {error.strerror}") from error
        self._parent = (b"", os.dup(self._root))
        self._directories: list[Entry] = []
        self.refused: list[str] = []

    def close(self) -> None:
        os.close(self._parent[1])
        os.close(self._root)

    def add(self, entry: Entry, content: Content) -> None:
        if not entry.path:
            self._directories.append(entry)
            return
        parent = self._open_parent(entry.parent)
        name = entry.name
        if entry.kind == DIR:
            self._make_directory(parent, name)
            self._directories.append(entry)
            return
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                raise TransportError(
                    f"{os.fsdecode(entry.path)}: there is a directory where the image has a file",
                    hint="export to an empty directory",
                ) from None
        if entry.kind == REG:
            self._write_file(parent, name, entry, content)
        elif entry.kind == LNK:
            with self._opened_parent(entry.link) as source:
                os.link(
                    entry.link.rpartition(b"/")[2],
                    name,
                    src_dir_fd=source,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )
        elif self._make_special(parent, name, entry):
            self._describe(parent, name, entry)

    def _make_special(self, parent: int, name: bytes, entry: Entry) -> bool:
        if entry.kind == SYM:
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            device = os.makedev(entry.major, entry.minor)
            try:
                os.mknod(name, _DEVICES[entry.kind] | 0o600, device, dir_fd=parent)
            except PermissionError:
                self.refused.append(os.fsdecode(entry.path))
                return False
        return True

    def _write_file(self, parent: int, name: bytes, entry: Entry, content: Content) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            for piece in _pieces(content):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            self._own(fd, entry)
            for key, value in entry.xattrs:
                with _if_allowed():
                    os.setxattr(fd, key, value)
            os.fchmod(fd, entry.mode)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _own(self, fd: int, entry: Entry) -> None:
        with _if_allowed():
            os.fchown(fd, entry.uid, entry.gid)

    def _describe(self, parent: int, name: bytes, entry: Entry) -> None:
        with _if_allowed():
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != SYM:
            os.chmod(name, entry.mode, dir_fd=parent)  # it was just made here, and is no link
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _make_directory(self, parent: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)

    def _open_parent(self, path: bytes) -> int:
        """The directory ``path``, which stays open until another one is asked for."""
        if self._parent[0] != path:
            fd = self._open(path)
            os.close(self._parent[1])
            self._parent = (path, fd)
        return self._parent[1]

    @contextlib.contextmanager
    def _opened_parent(self, path: bytes) -> Iterator[int]:
        fd = self._open(path.rpartition(b"/")[0])
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: bytes) -> int:
        fd = os.dup(self._root)
        for name in path.split(b"/") if path else ():
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def finish(self) -> None:
        """Give directories what they are to have, the deepest first: until now they had to be writable."""
        for entry in reversed(self._directories):
            fd = self._open(entry.path)
            try:
                self._own(fd, entry)
                for key, value in entry.xattrs:
                    with _if_allowed():
                        os.setxattr(fd, key, value)
                os.fchmod(fd, entry.mode)
                os.utime(fd, (entry.mtime, entry.mtime))
            finally:
                os.close(fd)


def _pieces(content: Content) -> Iterator[bytes]:
    if content is None:
        return
    if isinstance(content, bytes):
        yield content
        return
    while piece := os.read(content, _PIECE) if isinstance(content, int) else content.read(_PIECE):
        yield piece


@contextlib.contextmanager
def _if_allowed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise
