"""Entries to files of a snapshot, an overlay lowerdir. In: entries as `Placement` gives them, and their content. Out: files.

The snapshot is private while it is written, and still nothing is taken on trust: every directory is opened by name in
its parent with O_NOFOLLOW, and every file is made with O_EXCL.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from layersmith.errors import HostileInputError, StoreError
from layersmith.layer.entry import (
    BLK,
    CHR,
    DIR,
    FIFO,
    LNK,
    OPAQUE_WHITEOUT,
    REG,
    SYM,
    WHITEOUT_PREFIX,
    Entry,
)
from layersmith.layer.place import BOTH, shown
from layersmith.layer.tar.reader import TarReader

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {CHR: stat.S_IFCHR, BLK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_HOLE = bytes(1 << 16)
_LONG = 1 << 20
"""Bytes of a file from which on it is searched for long runs of zeros."""
_SECOND = 1_000_000_000


class SnapshotWriter:
    """Fills the directory ``top``. ``opaque`` is overlayfs's name for that attribute. Close it.

    Raises HostileInputError where one path is to be a directory and something else, StoreError where the kernel
    refuses an owner, and OSError for all the rest.
    """

    def __init__(self, top: Path, *, opaque: str, ignore_chown_errors: bool = False) -> None:
        fd = os.open(top, _DIRECTORY)
        self._places = _OpenDirectories(fd)
        self._targets = _OpenDirectories(os.dup(fd))
        self._opaque_name = opaque
        self._ignore_chown_errors = ignore_chown_errors
        self._owner = os.geteuid(), os.getegid()
        self._umask = _umask()
        self._directories: dict[bytes, Entry] = {b"": Entry(b"", DIR, 0o755)}
        self._opaque: set[bytes] = set()
        if "system.posix_acl_default" in os.listxattr(fd):
            os.removexattr(fd, "system.posix_acl_default")  # it would change the modes of what is made here

    def put(self, entry: Entry, content: TarReader) -> None:
        """Make one file; of a REG, ``content`` gives the bytes. Its parent is there already."""
        parent, _, name = entry.path.rpartition(b"/")
        try:
            dir_fd = self._places.open(parent)
        except NotADirectoryError:
            raise HostileInputError(
                f"{shown(entry.path)} lies below something that is not a directory"
            ) from None
        kind = entry.kind
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parent, name, dir_fd)
        elif kind == REG:
            mode = entry.mode
            try:
                fd = os.open(name, _CREATE, mode & 0o777, dir_fd=dir_fd)
            except FileExistsError:
                self._clear(entry, name, dir_fd)
                fd = os.open(name, _CREATE, mode & 0o777, dir_fd=dir_fd)
            try:
                if entry.size:
                    data = content.take()
                    if len(data) != entry.size or entry.size > _LONG or content.sparse is not None:
                        _write_long(fd, data, entry, content)
                    elif (written := os.write(fd, data)) != len(data):
                        _write(fd, data[written:])
                self._finish_file(fd, entry)
            finally:
                os.close(fd)
        elif kind == DIR:
            self._directory(entry, name, dir_fd)
        elif kind == LNK:
            self._link(entry, name, dir_fd)
        else:
            self._other(entry, name, dir_fd)

    def put_bytes(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        """Make a REG whose content comes from elsewhere."""
        parent, _, name = entry.path.rpartition(b"/")
        fd = os.open(name, _CREATE, 0o600, dir_fd=self._places.open(parent))
        try:
            for piece in pieces:
                _write(fd, memoryview(piece))
            self._finish_file(fd, entry._replace(mode=entry.mode | 0o10000))
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Give the directories their attributes: last, since each file made in one changes its mtime."""
        for path, entry in sorted(self._directories.items()):
            fd = self._places.open(path)
            self._set_owner(fd, entry)
            self._set_xattrs(fd, entry)
            if path in self._opaque:
                os.setxattr(fd, self._opaque_name, b"y")
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime * _SECOND, entry.mtime * _SECOND))

    def close(self) -> None:
        self._places.close()
        self._targets.close()

    def _finish_file(self, fd: int, entry: Entry) -> None:
        """Owner, xattrs, mode, times, in this order: chown clears setuid and capabilities, writing them changes times."""
        mode = entry.mode
        if entry[3:5] != self._owner:
            self._set_owner(fd, entry)
        if entry.xattrs:
            self._set_xattrs(fd, entry)
        if mode & (self._umask | 0o17000):
            os.fchmod(fd, mode & 0o7777)
        mtime = entry.mtime * _SECOND
        os.utime(fd, ns=(mtime, mtime))

    def _directory(self, entry: Entry, name: bytes, dir_fd: int) -> None:
        if entry.path not in self._directories:
            try:
                os.mkdir(name, 0o700, dir_fd=dir_fd)
            except FileExistsError:
                self._clear(entry, name, dir_fd)
                os.mkdir(name, 0o700, dir_fd=dir_fd)
        self._directories[entry.path] = entry

    def _clear(self, entry: Entry, name: bytes, dir_fd: int) -> None:
        """Remove what an earlier entry, or a whiteout of the lower layers' file, has put where ``entry`` goes."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        hidden = stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
        if stat.S_ISDIR(st.st_mode) or (entry.kind == DIR and not hidden):
            raise HostileInputError(f"{shown(entry.path)}: {BOTH}")
        os.unlink(name, dir_fd=dir_fd)
        if entry.kind == DIR:
            self._opaque.add(entry.path)

    def _whiteout(self, parent: bytes, name: bytes, dir_fd: int) -> None:
        if name == OPAQUE_WHITEOUT:
            self._opaque.add(parent)
            return
        name = name[len(WHITEOUT_PREFIX) :]
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=dir_fd)
        except FileExistsError:
            # The layer's own file stays; as a directory it must not be merged with the lower layers'.
            path = parent + b"/" + name if parent else name
            if path in self._directories:
                self._opaque.add(path)

    def _link(self, entry: Entry, name: bytes, dir_fd: int) -> None:
        parent, _, target = entry.link.rpartition(b"/")
        source = self._targets.open(parent)
        for _ in range(2):
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=dir_fd, follow_symlinks=False)
                return
            except FileExistsError:
                self._clear(entry, name, dir_fd)
            except PermissionError:
                raise HostileInputError(
                    f"{shown(entry.path)}: a hard link to {shown(entry.link)}, which can't have one"
                ) from None

    def _other(self, entry: Entry, name: bytes, dir_fd: int) -> None:
        for _ in range(2):
            try:
                if entry.kind == SYM:
                    os.symlink(entry.link, name, dir_fd=dir_fd)
                else:
                    _make_node(entry, name, dir_fd)
                break
            except FileExistsError:
                self._clear(entry, name, dir_fd)
        path = b"/proc/self/fd/%d/%b" % (dir_fd, name)
        if entry[3:5] != self._owner:
            self._set_owner(path, entry)
        if entry.xattrs:
            self._set_xattrs(path, entry)
        if entry.kind != SYM:
            os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime * _SECOND, entry.mtime * _SECOND), follow_symlinks=False)

    def _set_owner(self, file: int | bytes, entry: Entry) -> None:
        try:
            if isinstance(file, int):
                os.fchown(file, entry.uid, entry.gid)
            else:
                os.lchown(file, entry.uid, entry.gid)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            if not self._ignore_chown_errors:
                raise StoreError(
                    f"can't make {entry.uid}:{entry.gid} the owner of {shown(entry.path)}: no such id here",
                    hint="rootless builds need a range of ids in /etc/subuid and /etc/subgid, and newuidmap",
                ) from error

    def _set_xattrs(self, file: int | bytes, entry: Entry) -> None:
        for key, value in entry.xattrs:
            try:
                os.setxattr(file, key, value, follow_symlinks=isinstance(file, int))
            except OSError as error:
                # A file system without them, or a rootless builder that may not set this one (as umoci does).
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise


class _OpenDirectories:
    """Descriptors of the directories down to the latest one: most entries lie beside the one before."""

    def __init__(self, top: int) -> None:
        self._fds = [top]
        self._names: list[bytes] = []
        self._path: bytes | None = b""

    def open(self, path: bytes) -> int:
        """A descriptor of the directory ``path``, valid until the next call."""
        if path == self._path:
            return self._fds[-1]
        names = path.split(b"/") if path else []
        common = 0
        for ours, theirs in zip(self._names, names, strict=False):
            if ours != theirs:
                break
            common += 1
        while len(self._names) > common:
            self._names.pop()
            os.close(self._fds.pop())
        self._path = None  # until all of them are open, for one may not exist
        for name in names[common:]:
            self._fds.append(os.open(name, _DIRECTORY, dir_fd=self._fds[-1]))
            self._names.append(name)
        self._path = path
        return self._fds[-1]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _make_node(entry: Entry, name: bytes, dir_fd: int) -> None:
    try:
        os.mknod(name, _TYPES[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=dir_fd)
    except PermissionError:
        if entry.kind == FIFO:
            raise
        # No user namespace may make devices. An empty file takes the place, as with umoci: /dev is mounted over
        # wherever a command runs, and the layer itself still has the device.
        os.close(os.open(name, _CREATE, 0, dir_fd=dir_fd))


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _write_long(fd: int, data: memoryview, entry: Entry, content: TarReader) -> None:
    """Write a long file, or one that doesn't come in one piece; long runs of zeros and a sparse file's holes take no space."""
    if content.sparse is not None:
        for offset, length in content.sparse:
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                data = data or content.take()
                part = data[:length]
                _write(fd, part)
                length -= len(part)
                data = data[len(part) :]
    else:
        left = entry.size
        while data:
            left -= len(data)
            _write_with_holes(fd, data)
            data = content.take() if left else data[:0]
    os.ftruncate(fd, entry.size)


def _write_with_holes(fd: int, data: memoryview) -> None:
    start = 0
    for at in range(0, len(data) - len(_HOLE) + 1, len(_HOLE)):
        # The first byte decides nearly always, and a comparison of memoryviews is slow.
        if not data[at] and data[at : at + len(_HOLE)] == _HOLE:
            _write(fd, data[start:at])
            os.lseek(fd, len(_HOLE), os.SEEK_CUR)
            start = at + len(_HOLE)
    _write(fd, data[start:])


def _umask() -> int:
    """This process's umask, which can't be asked for without changing it except here."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o777
