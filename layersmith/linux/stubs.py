"""Mount points that a sandbox needed and its image lacked. In: what was made, as `Stub`. Out: an upper without them.

An upper directory is to hold what the command did, nothing else: a stub that is still empty goes, its parent gets its
times back, and directories that were copied up only to hold it go too (BuildKit's executor/stubs.go does the like).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from layersmith.dataclass import dataclass
from layersmith.linux import libc

OPAQUE_MARKS = (".wh..wh..opq", ".wh..opq")
"""What fuse-overlayfs marks an opaque directory with."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What of a directory a command may change: mode, owners, extended attributes; times apart."""

    mode: int
    uid: int
    gid: int
    xattrs: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Stub:
    """``path`` (relative to the root, without symlinks) was made. ``before`` and ``after`` are the parent's mtime in
    nanoseconds, ``copied_up`` its nearest ancestors (itself first) that the upper did not hold, as they were."""

    path: str
    is_directory: bool
    before: int
    after: int
    copied_up: tuple[tuple[str, int, Attributes], ...]

    def plain(self) -> tuple[Any, ...]:
        """All of it as tuples, which another process can be told."""
        copies = tuple((path, when, (a.mode, a.uid, a.gid, a.xattrs)) for path, when, a in self.copied_up)
        return self.path, self.is_directory, self.before, self.after, copies


def attributes(descriptor: int) -> Attributes:
    """Those of an open directory. Overlayfs' own xattrs do not count."""
    status = os.fstat(descriptor)
    path = f"/proc/self/fd/{descriptor}"
    names = sorted(n for n in os.listxattr(path) if ".overlay." not in n and ".fuseoverlayfs." not in n)
    return Attributes(
        status.st_mode, status.st_uid, status.st_gid, tuple((n, os.getxattr(path, n)) for n in names)
    )


def remove_stubs(root: str, stubs: tuple[Stub, ...]) -> None:
    """Undo ``stubs`` in ``root`` (an upper directory, or a plain root file system), the last made first.

    Never follows a symlink, never fails: what somebody changed meanwhile stays as it is.
    """
    with contextlib.suppress(OSError):
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for stub in reversed(stubs):
                with contextlib.suppress(OSError):
                    _remove(top, stub)
        finally:
            os.close(top)


def _remove(top: int, stub: Stub) -> None:
    parent_path, _, name = stub.path.rpartition("/")
    parent = _directory(top, parent_path)
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        used = os.fstat(parent).st_mtime_ns
        if stub.is_directory and stat.S_ISDIR(status.st_mode):
            _rmdir(name, parent)
        elif not stub.is_directory and stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=parent)
        else:
            return
        mtime = stub.before if used == stub.after else used
        os.utime(f"/proc/self/fd/{parent}", ns=(os.fstat(parent).st_atime_ns, mtime))
    finally:
        os.close(parent)
    for path, mtime, was in stub.copied_up:
        _remove_copy(top, path, mtime, was)


def _remove_copy(top: int, path: str, mtime: int, was: Attributes) -> None:
    """Remove the directory ``path`` if it holds nothing and differs in nothing from the lower one it is a copy of."""
    directory = _directory(top, path)
    try:
        if os.fstat(directory).st_mtime_ns != mtime or attributes(directory) != was:
            return
    finally:
        os.close(directory)
    parent_path, _, name = path.rpartition("/")
    parent = _directory(top, parent_path)
    try:
        status = os.fstat(parent)
        _rmdir(name, parent)
        os.utime(f"/proc/self/fd/{parent}", ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(parent)


def _rmdir(name: str, parent: int) -> None:
    """Also where fuse-overlayfs has put its marks into what it took for a new directory."""
    for mark in OPAQUE_MARKS:
        with contextlib.suppress(OSError):
            os.unlink(f"{name}/{mark}", dir_fd=parent)
    os.rmdir(name, dir_fd=parent)


def _directory(top: int, path: str) -> int:
    resolve = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
    return libc.openat2(top, os.fsencode(path) or b".", os.O_PATH | os.O_DIRECTORY, 0, resolve)
