"""Whether two layers hold the same files. In: two layers of a store. Out: yes or no.

Times are not content: a step that runs again makes the same files anew, and its layer has another DiffID for nothing
but their mtimes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersmith.layer.blob import layer_index, open_tar
from layersmith.layer.entry import Entry

if TYPE_CHECKING:
    from layersmith.layer.tar.reader import TarReader
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

_MTIME = Entry._fields.index("mtime")


def same_content(store: Store, one: Layer, other: Layer, *, same_sources: bool = False) -> bool:
    """Whether ``one`` and ``other`` are the same entries in the same order with the same contents, mtimes aside.

    Cheap where they differ in more than a content: the file indexes tell. Else both blobs are read, up to the first
    difference; unless the files of both are copies made in the same way of the ``same_sources``. Raises what
    `layersmith.layer.blob.open_tar` raises.
    """
    if one.diff_id == other.diff_id:
        return True
    ours, theirs = layer_index(store, one, ())[1], layer_index(store, other, ())[1]
    if not ours.same_but_times(theirs):
        return False
    if same_sources:
        return True
    try:
        with open_tar(store, one) as first, open_tar(store, other) as second:
            _compare(first, second)
    except _DifferentError:
        return False
    return True


def _alike(one: Entry, other: Entry) -> bool:
    """Whether they are the same but for their times."""
    return one[:_MTIME] == other[:_MTIME] and one[_MTIME + 1 :] == other[_MTIME + 1 :]


class _DifferentError(Exception):
    """Ends the reading of two tars, which are then not verified to their ends."""


def _compare(first: TarReader, second: TarReader) -> None:
    for entry in first:
        twin = next(second, None)
        if twin is None or not _alike(entry, twin) or first.sparse != second.sparse:
            raise _DifferentError
        ours, theirs = first.take(), second.take()
        while ours and theirs:
            common = min(len(ours), len(theirs))
            if bytes(ours[:common]) != bytes(theirs[:common]):
                raise _DifferentError
            ours, theirs = ours[common:] or first.take(), theirs[common:] or second.take()
    if next(second, None) is not None:
        raise _DifferentError
