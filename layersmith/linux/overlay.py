"""Overlay mounts. In: `Overlay`, a value. Out: a mount, detached (`open_overlay`) or in the tree (`overlay`).

Through the new mount API where the kernel has ``lowerdir+`` (Linux 6.7), so that neither the 4 KiB option page nor
the 256 bytes of an fsconfig string set a limit; else by mount(2) on short relative names. See
https://docs.kernel.org/filesystems/overlayfs.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlay:
    """A stack of directories seen as one.

    ``lowers`` are absolute paths, topmost first, at most 500; ``upper`` and ``work`` lie on one file system and are
    both given or both None (then the view is read-only). ``userxattr`` says that whiteouts and opaque marks are
    ``user.overlay.*`` (a mount in a user namespace) and not ``trusted.overlay.*``. ``volatile`` leaves out the
    syncfs of the whole upper file system at unmount: an upper directory is only a copy of its layer's blob.

    No lower and an upper is that directory itself; no lower and no upper an empty read-only one; one lower without
    an upper that directory, read-only.
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    userxattr: bool = False
    volatile: bool = True


def open_overlay(overlay: Overlay) -> int:
    """A detached mount of ``overlay``: a descriptor for ``libc.move_mount``. Raises SandboxError."""
    raise NotImplementedError


def mount_overlay(overlay: Overlay, target: str) -> None:
    """Mount ``overlay`` on the directory ``target`` of the calling process' mount namespace. Raises SandboxError."""
    raise NotImplementedError


@contextmanager
def overlay(layers: Overlay, target: str) -> Iterator[str]:
    """``target`` with ``layers`` mounted on it, for as long as the block runs. Raises SandboxError.

    Only after `userns.enter`: the mount is then invisible to the host and goes with the process.
    """
    mount_overlay(layers, target)
    yield target
