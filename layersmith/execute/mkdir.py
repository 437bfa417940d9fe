"""EXECUTE: WORKDIR. In: a MkdirOp and the View below. Out: the items of the directories that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from layersmith.ops import MkdirOp

if TYPE_CHECKING:
    from layersmith.layer.entry import Item
    from layersmith.layer.view import View


def mkdir_items(op: MkdirOp, dest: View, *, now: int) -> Iterator[Item]:
    """Entries for ``op.path`` and its missing parents, owned by ``op.user``; none if it exists already.

    Raises:
        CopyError: the path runs through something that is not a directory, or the user is unknown.
    """
    raise NotImplementedError
