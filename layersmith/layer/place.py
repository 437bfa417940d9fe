"""Where the entries of a layer's tar go when it is applied on the layers below. In: entries, a `View`. Out: the same
entries at their real paths, with the directories that the tar only implies.

A tar may lack the entry of a directory that it has files in, or name a file by way of a symlink, its own or one of a
lower layer. Applied in order, as containerd does, such a layer's files depend on what lies below: it has `external`
paths, and one snapshot for each base on which those mean something different. All others, which is nearly all, mean
the same on any base.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from layersmith.errors import HostileInputError
from layersmith.layer.entry import (
    DIR,
    LNK,
    MAX_PATH,
    OPAQUE_WHITEOUT,
    SYM,
    WHITEOUT_PREFIX,
    Entry,
    kept_xattr,
)

if TYPE_CHECKING:
    from layersmith.layer.view import View

MAX_LINKS = 40
"""Symlinks followed in one path, as in the kernel."""
MAX_DEPTH = 512
"""Components of a path: each costs an open descriptor while it is written."""


BOTH = "the layer has both a directory and something else there"


class ExternalPath(Exception):
    """Where an entry goes depends on the layers below, and nobody said what those are."""


class Placement:
    """Places the entries of one tar, in their order. ``below`` None means: nothing is below.

    With ``alone`` off, ExternalPath is raised instead of taking that for an answer.
    """

    def __init__(self, below: View | None = None, *, alone: bool = True) -> None:
        self.below = below
        self._alone = alone
        self._real: dict[bytes, bytes] = {b"": b""}  # a directory, as a tar may write it -> its real path
        self._links: dict[bytes, bytes] = {}
        self.external: dict[bytes, None] = {}
        """Paths that the tar says nothing about, whose nature below decides; in the order they came up."""

    def place(self, entry: Entry) -> tuple[Entry, list[Entry]] | None:
        """The entry at its real path, and the missing parents to make before it; None for one without effect.

        Extended attributes that have no business in a layer are dropped (`kept_xattr`).

        Raises HostileInputError for a path through a file, too many links, or a whiteout that means nothing.
        """
        path = entry.path
        if entry.xattrs and not all(kept_xattr(name) for name, _ in entry.xattrs):
            entry = entry._replace(xattrs=tuple(pair for pair in entry.xattrs if kept_xattr(pair[0])))
        parent, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT_PREFIX):
            return self._place_whiteout(entry, parent, name)
        real = self._real.get(parent)
        implied: list[Entry] = []
        if real is None:
            real = self._directory(parent, implied)
        if real != parent:
            path = real + b"/" + name if real else name
            if len(path) > MAX_PATH:
                raise HostileInputError(f"{shown(path)}: its path is too long")
            entry = entry._replace(path=path)
        kind = entry.kind
        if kind == DIR:
            if path in self._links:
                raise HostileInputError(f"{shown(path)}: {BOTH}")
            self._real[path] = path
            self.external.pop(path, None)
        elif path in self._real:
            raise HostileInputError(f"{shown(path)}: {BOTH}")
        elif kind == SYM:
            if path in self._links:
                self._forget_aliases()
            self._links[path] = entry.link
        elif kind == LNK:
            entry = entry._replace(link=self._link_target(entry, implied))
        return entry, implied

    def _place_whiteout(self, entry: Entry, parent: bytes, name: bytes) -> tuple[Entry, list[Entry]] | None:
        if name != OPAQUE_WHITEOUT and name[4:] in (b"", b".", b".."):
            raise HostileInputError(f"{shown(entry.path)}: a whiteout of nothing that could have a name")
        if name.startswith(b".wh..wh.") and name != OPAQUE_WHITEOUT:
            return None  # aufs kept its own books in such files (.wh..wh.plnk, .wh..wh.aufs)
        real = self._real.get(parent)
        implied: list[Entry] = []
        if real is None:
            real = self._directory(parent, implied)
            if any(self._in_below(directory.path) is None for directory in implied):
                # Nothing below is hidden by this, and no directory comes into being either.
                for directory in implied:
                    del self._real[directory.path]
                self._forget_aliases()
                return None
        if real != parent:
            entry = entry._replace(path=real + b"/" + name if real else name)
        return entry, implied

    def _link_target(self, entry: Entry, implied: list[Entry]) -> bytes:
        parent, _, name = entry.link.rpartition(b"/")
        if not name:
            raise HostileInputError(f"{shown(entry.path)}: a hard link to the root directory")
        real = self._real.get(parent)
        if real is None:
            real = self._directory(parent, implied)
        target = real + b"/" + name if real else name
        if target == entry.path:
            raise HostileInputError(f"{shown(entry.path)}: a hard link to itself")
        return target

    def _directory(self, path: bytes, implied: list[Entry]) -> bytes:
        """The real path of the directory that the tar calls ``path``; what it lacks is added to ``implied``."""
        here = b""
        todo = path.split(b"/")[::-1]
        if len(todo) > MAX_DEPTH:
            raise HostileInputError(f"{shown(path)}: more than {MAX_DEPTH} directories deep")
        followed = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here.rpartition(b"/")[0]
                continue
            at = here + b"/" + name if here else name
            if self._real.get(at) == at:
                here = at
                continue
            link = self._links.get(at)
            if link is None:
                found = self._in_below(at)
                if found is None or found.kind == DIR:
                    implied.append(found or Entry(at, DIR, 0o755))
                    self._real[at] = here = at
                    continue
                if found.kind != SYM:
                    raise HostileInputError(
                        f"{shown(path)}: {shown(at)} is not a directory in the layers below"
                    )
                link = found.link
            followed += 1
            if followed > MAX_LINKS:
                raise HostileInputError(f"{shown(path)}: more than {MAX_LINKS} symbolic links on the way")
            if link.startswith(b"/"):
                here = b""
            todo += link.split(b"/")[::-1]
            if len(todo) > 2 * MAX_DEPTH:
                raise HostileInputError(f"{shown(path)}: more than {MAX_DEPTH} directories deep")
        self._real[path] = here
        return here

    def _in_below(self, path: bytes) -> Entry | None:
        if path not in self.external:
            self.needs_below()
            self.external[path] = None
        return self.below.lookup(path) if self.below is not None else None

    def needs_below(self) -> View | None:
        """The layers below; raises ExternalPath if nobody said what they are."""
        if not self._alone and self.below is None:
            raise ExternalPath
        return self.below

    def _forget_aliases(self) -> None:
        self._real = {path: real for path, real in self._real.items() if path == real}


def shown(path: bytes) -> str:
    """A path from a layer, fit for a message."""
    return repr(os.fsdecode(path[:200]).encode(errors="backslashreplace").decode())
