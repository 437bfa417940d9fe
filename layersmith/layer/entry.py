"""`Entry`: what a tar header says about one file, and `Item`: an entry with its content.

In: nothing. Out: the values that `changes`, `scan` and `tar` make, and `pack`, `unpack` and `index` take.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

REG = b"0"
LNK = b"1"
SYM = b"2"
CHR = b"3"
BLK = b"4"
DIR = b"5"
FIFO = b"6"
"""Values of `Entry.kind`: the typeflags of POSIX.1-1988 (pax(1), "ustar Interchange Format")."""

MAX_PATH = 4095
"""Bytes of a path or link target: the kernel's PATH_MAX without the final NUL."""

WHITEOUT_PREFIX = b".wh."
OPAQUE_WHITEOUT = b".wh..wh..opq"
"""image-spec layer.md, "Whiteouts"."""


class Entry(NamedTuple):
    """One file of a layer.

    ``path`` is relative, with neither a leading nor a trailing slash; ``b""`` is the root directory. ``mode`` holds
    the twelve permission bits only; ``mtime`` is in whole seconds and may be negative; ``size`` is the content's
    length in bytes and 0 for all but REG. ``link`` is a SYM's target as stored, or the path (as ``path``) of the
    entry that a LNK is another name of. ``xattrs`` is sorted by name.

    A whiteout is an empty REG whose last component is ``.wh.<name>``, as in the tar.
    """

    # A NamedTuple, unlike the project's other values: a layer makes a million of these, and a frozen dataclass
    # takes five times as long to make.
    path: bytes
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def name(self) -> bytes:
        """The last component; ``b""`` for the root."""
        return self.path.rpartition(b"/")[2]

    @property
    def parent(self) -> bytes:
        """The path of the directory that holds it; ``b""`` for the root and for what lies directly in it."""
        return self.path.rpartition(b"/")[0]


ROOT = Entry(b"", DIR, 0o755)
"""The root directory of a layer or a stack of them that has no entry for it."""


class Readable(Protocol):
    """A stream that holds a file's content; ``read(n)`` gives at most ``n`` bytes, and ``b""`` at the end."""

    def read(self, size: int, /) -> bytes: ...


Content = int | bytes | Readable | None
"""A REG's content: an open file descriptor at offset 0 (closed by whoever made it), bytes, or a stream."""

Item = tuple[Entry, Content]
"""An entry and its content (None for all but REG). A descriptor or stream is valid only until the iterator that
gave it is advanced: who takes an item reads its content at once."""


def kept_xattr(name: bytes) -> bool:
    """Whether an extended attribute goes into layers and comes out of them.

    Capabilities, ACLs and ``user.*`` do; ``trusted.*`` and ``security.selinux`` are this machine's own, and what
    overlayfs keeps for itself would, coming out of a layer, let that point anywhere.
    """
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.")
    return name == b"security.capability" or name.startswith(b"system.posix_acl_")


def whiteout(path: bytes) -> Entry:
    """The entry that removes ``path`` of the layers below."""
    parent, slash, name = path.rpartition(b"/")
    return Entry(parent + slash + WHITEOUT_PREFIX + name, REG)


def opaque(path: bytes) -> Entry:
    """The entry that hides everything that the layers below have in the directory ``path``."""
    return Entry(path + b"/" + OPAQUE_WHITEOUT if path else OPAQUE_WHITEOUT, REG)
