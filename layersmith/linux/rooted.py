"""Paths below a root that nobody may leave: for all who read or write in a hostile tree.

In: a descriptor of the root and a path as the tree sees it. Out: a descriptor. Symlinks, absolute ones and ``..``
included, are followed inside the root, as after a chroot: openat2(2) with RESOLVE_IN_ROOT, or where the kernel
(< 5.6) or a seccomp filter lacks it, a walk component by component with O_NOFOLLOW.
"""

from __future__ import annotations


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0, *, follow: bool = True) -> int:
    """``os.open(path, flags, mode)`` with ``root`` as ``/``. O_CLOEXEC is always set; the caller closes.

    ``follow=False`` refuses (ELOOP) a symlink as last component, as O_NOFOLLOW does; with O_PATH it opens the link.
    Raises OSError as open(2) does; ELOOP also for /proc's magic links.
    """
    raise NotImplementedError


def open_parent_in_root(root: int, path: str | bytes) -> tuple[int, bytes]:
    """The directory that holds ``path``'s last component (symlinks followed up to it), and that component's name.

    For the ``dir_fd=`` calls: mkdir, unlink, rename, symlink, mknod. Raises ValueError for a path without a name
    (``/``, ``.``, ``..``), OSError otherwise.
    """
    raise NotImplementedError


def read_in_root(root: int, path: str | bytes, *, limit: int = 1 << 20) -> bytes | None:
    """A small regular file's bytes (at most ``limit``; None where there is none or it is no regular file)."""
    raise NotImplementedError
