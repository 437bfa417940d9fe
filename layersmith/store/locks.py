"""Locks between processes and threads by flock(2): the kernel drops them with the process, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from layersmith.errors import StoreError
from layersmith.store.files import storing


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` (made if missing) for the block; every use counts as another holder.

    Raises:
        StoreError: ``wait`` is off and somebody else holds it.
    """
    fd = _acquire(path, shared=shared, wait=wait)
    try:
        yield
    finally:
        os.close(fd)


def _acquire(path: Path, *, shared: bool, wait: bool) -> int:
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        with storing(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, operation)
            if is_current(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise StoreError(f"{path.stem} is locked by another process") from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def is_current(fd: int, path: Path) -> bool:
    """Whether ``path`` still is what ``fd`` was opened from, or has been removed or replaced since."""
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    then = os.fstat(fd)
    return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)


def try_lock_directory(path: Path) -> int | None:
    """An fd that holds ``path`` (a directory) exclusively, or None if somebody else does or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_current(fd, path):
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None
