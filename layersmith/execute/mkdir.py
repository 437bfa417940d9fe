"""EXECUTE: WORKDIR. In: a MkdirOp and the View below. Out: the items of the directories that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from layersmith.execute.attributes import parse_owner
from layersmith.execute.destination import Below, locate
from layersmith.execute.source import Looks
from layersmith.ops import MkdirOp

if TYPE_CHECKING:
    from layersmith.layer.entry import Item


def mkdir_items(op: MkdirOp, dest: Below, *, now: int) -> Iterator[Item]:
    """Entries for ``op.path`` and its missing parents, owned by ``op.user``; none if it exists already.

    Raises:
        CopyError: the path runs through something that is not a directory, or the user is unknown.
    """
    destination = locate(op.path.rstrip("/") + "/", dest)
    if destination.exists:
        return
    owner = parse_owner(op.user, dest.read, flag="USER") if op.user else None
    entries, _ = destination.leading(Looks(owner, None, now))
    for entry in entries:
        yield entry, None
