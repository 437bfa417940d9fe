"""Paths below a root that nobody may leave: for all who read or write in a hostile tree.

In: a descriptor of the root and a path as the tree sees it. Out: a descriptor. Symlinks, absolute ones and ``..``
included, are followed inside the root, as after a chroot: openat2(2) with RESOLVE_IN_ROOT, or where the kernel
(< 5.6) or a seccomp filter lacks it, a walk component by component with O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import os
import stat

from layersmith.linux import libc

MOST_LINKS = 40
"""As many symlinks as the kernel follows in one path (path_resolution(7))."""


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0, *, follow: bool = True) -> int:
    """``os.open(path, flags, mode)`` with ``root`` as ``/``. O_CLOEXEC is always set; the caller closes.

    ``follow=False`` refuses (ELOOP) a symlink as last component, as O_NOFOLLOW does; with O_PATH it opens the link.
    Raises OSError as open(2) does; ELOOP also for /proc's magic links.
    """
    encoded = os.fsencode(path)
    if not follow:
        flags |= os.O_NOFOLLOW
    while True:
        try:
            return libc.openat2(
                root, encoded or b".", flags, mode, libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS
            )
        except OSError as error:
            if error.errno == errno.EAGAIN:  # a rename raced with a ".."; openat2(2) says to try again
                continue
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            return _walk(root, encoded, flags, mode)


def open_parent_in_root(root: int, path: str | bytes) -> tuple[int, bytes]:
    """The directory that holds ``path``'s last component (symlinks followed up to it), and that component's name.

    For the ``dir_fd=`` calls: mkdir, unlink, rename, symlink, mknod. Raises ValueError for a path without a name
    (``/``, ``.``, ``..``), OSError otherwise.
    """
    parent, _, name = os.fsencode(path).rstrip(b"/").rpartition(b"/")
    if name in (b"", b".", b".."):
        raise ValueError(f"{os.fsdecode(path)!r} names no directory entry")
    return open_in_root(root, parent or b"/", os.O_PATH | os.O_DIRECTORY), name


def read_in_root(root: int, path: str | bytes, *, limit: int = 1 << 20) -> bytes | None:
    """A small regular file's bytes (at most ``limit``; None where there is none or it is no regular file)."""
    try:
        file = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        parts = []
        while limit > 0 and (part := os.read(file, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _walk(root: int, path: bytes, flags: int, mode: int) -> int:
    """openat2's RESOLVE_IN_ROOT by hand: ``trail`` holds the directories from the root down, so ``..`` never asks
    the file system for a parent."""
    trail = [os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)]
    todo = path.split(b"/")[::-1]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            last = not any(n not in (b"", b".") for n in todo)
            here = _peek(trail[-1], name)
            if here is not None and stat.S_ISLNK(here.st_mode) and not (last and flags & os.O_NOFOLLOW):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(name, dir_fd=trail[-1])
                if target.startswith(b"/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                todo.extend(target.split(b"/")[::-1])
                continue
            if last:
                directory = os.O_DIRECTORY if todo else 0  # a trailing slash or dot
                return os.open(name, flags | directory | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=trail[-1])
            trail.append(
                os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trail[-1])
            )
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=trail[-1])
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _peek(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
