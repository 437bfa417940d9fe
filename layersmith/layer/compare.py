"""Whether two layers hold the same files. In: two layers of a store. Out: yes or no.

Times are not content: a step that runs again makes the same files anew, and its layer has another DiffID for nothing
but their mtimes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersmith.layer.blob import layer_index, open_tar

if TYPE_CHECKING:
    from layersmith.layer.tar.reader import TarReader
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store


def same_content(store: Store, one: Layer, other: Layer) -> bool:
    """Whether ``one`` and ``other`` are the same entries in the same order with the same contents, mtimes aside.

    Cheap where they differ in more than a content: the file indexes tell. Else both blobs are read, up to the first
    difference. Raises what `layersmith.layer.blob.open_tar` raises.
    """
    if one.diff_id == other.diff_id:
        return True
    ours, theirs = layer_index(store, one, ())[1], layer_index(store, other, ())[1]
    if len(ours) != len(theirs):
        return False
    if any(a._replace(mtime=0) != b._replace(mtime=0) for a, b in zip(ours, theirs, strict=True)):
        return False
    try:
        with open_tar(store, one) as first, open_tar(store, other) as second:
            _compare(first, second)
    except _DifferentError:
        return False
    return True


class _DifferentError(Exception):
    """Ends the reading of two tars, which are then not verified to their ends."""


def _compare(first: TarReader, second: TarReader) -> None:
    for entry in first:
        twin = next(second, None)
        if twin is None or entry._replace(mtime=0) != twin._replace(mtime=0) or first.sparse != second.sparse:
            raise _DifferentError
        ours, theirs = first.take(), second.take()
        while ours and theirs:
            common = min(len(ours), len(theirs))
            if bytes(ours[:common]) != bytes(theirs[:common]):
                raise _DifferentError
            ours, theirs = ours[common:] or first.take(), theirs[common:] or second.take()
    if next(second, None) is not None:
        raise _DifferentError
