"""Durable files: what makes "temp, fsync, rename" and "move aside, delete later" safe. In: paths. Out: effects.

Every function that writes turns the kernel's refusals into `StoreError`, for a full disk is nobody's bug.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from layersmith.errors import StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x20000
"""linux/fs.h, on 64-bit machines."""


class DiskFullError(StoreError):
    """There is no space (or quota) left where the store is."""


@contextlib.contextmanager
def storing(path: Path | str) -> Iterator[None]:
    """Turn an OSError of the block, which writes below ``path``, into a StoreError that a person understands."""
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path | str) -> StoreError:
    """The StoreError for ``error`` met while working on ``path``."""
    if error.errno in _FULL:
        return DiskFullError(
            f"no space left to write {path}", hint="free some space, for example with `layersmith prune`"
        )
    if error.errno in _REFUSED:
        why = "it is on a read-only file system" if error.errno == errno.EROFS else "permission denied"
        return StoreError(
            f"can't write {path}: {why}", hint="choose another store with --root or $LAYERSMITH_ROOT"
        )
    return StoreError(f"can't access {path}: {error.strerror or error}")


def fsync_directory(path: Path) -> None:
    """Make the names in ``path`` durable."""
    with _opened(path) as fd:
        os.fsync(fd)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the directory ``path`` for a block."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(path: Path, data: bytes, *, temporary: Path, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` durably by way of ``temporary``; a reader sees the old file or the new one, whole."""
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, data)
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def make_directory(path: Path, mode: int) -> None:
    """Make ``path`` if missing, with exactly ``mode`` whatever the umask is."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(mode)


def spread_children(path: Path) -> None:
    """Have ext4 put each directory in ``path`` into a part of the disk of its own (chattr(1), ``+T``); elsewhere nothing.

    Without it they crowd together, and ext4 passes over the inodes of what was deleted there within some minutes one by
    one: to write 27,000 files where as many were just removed took 9 s instead of 3.
    """
    with _opened(path) as fd, contextlib.suppress(OSError):
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", _flags(fd) | _FS_TOPDIR_FL))


def is_spread(path: Path) -> bool:
    """Whether `spread_children` had an effect on ``path``."""
    try:
        with _opened(path) as fd:
            return bool(_flags(fd) & _FS_TOPDIR_FL)
    except OSError:
        return False


def _flags(fd: int) -> int:
    # The type of the request says long, the kernel writes an int (ioctl_iflags(2)).
    return int(struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))[0])


HOLLOW_EACH = 32
"""Of how many directories one is left for some minutes: a part of the disk holds hundreds."""


def remove_tree(path: Path, *, deadline: float | None = None, hollow: Path | None = None) -> bool:
    """Delete ``path`` and all below it; False if ``deadline`` (`time.monotonic`) came first or something resists.

    Some of its directories are moved to ``hollow``, empty, if that is given.

    Subdirectories are first moved up beside ``path``, so depth costs neither file descriptors nor stack, no path is
    ever followed, and what a kill leaves behind are more entries named ``dead-…`` for the next sweep.
    """
    clean = True
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        pending = [path.name]
        numbers = count()
        while pending:
            if deadline is not None and time.monotonic() > deadline:
                return False
            try:
                kept = hollow if not next(numbers) % HOLLOW_EACH else None
                pending += _remove_level(parent, pending.pop(), kept)
            except FileNotFoundError:
                continue  # another process sweeps, too
            except OSError:
                clean = False
        return clean
    finally:
        os.close(parent)


def _remove_level(parent: int, name: str, hollow: Path | None) -> list[str]:
    """Delete ``name``; if it is a directory, its files, with its subdirectories moved to ``parent``. Their new names."""
    try:
        fd = _open_directory(parent, name)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
        return []
    moved = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    target = f"dead-{os.urandom(8).hex()}"
                    try:
                        os.rename(entry.name, target, src_dir_fd=fd, dst_dir_fd=parent)
                    except PermissionError:
                        # Moving a directory rewrites its "..", for which an unprivileged owner needs its w bit.
                        os.chmod(entry.name, 0o700, dir_fd=fd)
                        os.rename(entry.name, target, src_dir_fd=fd, dst_dir_fd=parent)
                    moved.append(target)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.name, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        if hollow is not None:
            os.rename(name, hollow / os.urandom(8).hex(), src_dir_fd=parent)
            return moved
    except OSError:
        pass  # then it need not stay
    os.rmdir(name, dir_fd=parent)
    return moved


def _open_directory(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if os.geteuid() != 0:
        # An upper directory may hold directories that even their owner can't search. (Not a link: see O_NOFOLLOW.)
        with contextlib.suppress(PermissionError):
            fd = os.open(name, flags, dir_fd=parent)
            if os.fstat(fd).st_mode & 0o700 != 0o700:
                os.fchmod(fd, 0o700)
            return fd
        os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)
