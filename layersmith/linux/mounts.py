"""A sandbox's mounts as data. Each value says what it is (`describe`) and can do it (`execute`, in the sandbox's set-up).

Targets are absolute paths in the container, resolved inside its root; missing mount points are made, and
removed again after the process ended if nobody used them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bind:
    """The host's ``source`` (directory, file, socket, device) at ``target``.

    ``inside`` is a path within ``source``, resolved with symlinks contained in it (for a sub-path of a hostile tree).
    """

    source: str
    target: str
    readonly: bool = False
    inside: str = "/"

    def describe(self) -> str:
        return f"bind {self.source} on {self.target}{' read-only' if self.readonly else ''}"


@dataclass(frozen=True, slots=True)
class OverlayAt:
    """An overlay at ``target``: a RUN bind mount with ``rw``, whose writes are thrown away."""

    overlay: object
    target: str
    inside: str = "/"
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty tmpfs; ``size`` in bytes (0: half of memory, the kernel's default)."""

    target: str
    size: int = 0
    mode: int = 0o1777
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file of ``data``, kept in memory only, at ``target`` (secrets, resolv.conf, scripts)."""

    target: str
    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    readonly: bool = False


Mount = Bind | OverlayAt | Tmpfs | File
