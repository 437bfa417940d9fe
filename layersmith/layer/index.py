"""The file index of a layer: what is in it, without its blob. In: entries. Out: ``layers/<DiffID>.index``.

Sorted by path, so that a lookup is a binary search in the mapped file, and a directory's content one range of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layersmith.layer.entry import Entry

WHT = b"w"
"""`Entry.kind` of a whiteout in an index, where its path is that of the file which it removes."""


class LayerIndex:
    """An index, mapped into memory; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def get(self, path: bytes) -> Entry | None:
        """The entry at ``path``; a hard link is given as the REG it is a name of, with ``link`` the first name."""
        raise NotImplementedError

    def opaque(self, path: bytes) -> bool:
        """Whether ``path`` is a directory that hides what the layers below have in it."""
        raise NotImplementedError

    def children(self, path: bytes) -> Iterator[Entry]:
        """What lies directly in the directory ``path``, sorted by name; whiteouts included."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Entry]:
        """All entries, parents first."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
