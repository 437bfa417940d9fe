"""The files of a stack of layers as one tree: what a container of the image would see. In: layers. Out: `Item`s.

Nothing is unpacked for it: which layer a file is from is known from the file indexes, and each blob is read once, from
its beginning to its end, for all the files that it contributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layersmith.layer.blob import layer_index, open_tar
from layersmith.layer.entry import LNK, REG, Entry, Item
from layersmith.layer.index import LayerIndex
from layersmith.layer.tar.reader import Body
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

_Files = dict[int, list[Entry]]
"""Offset of the content in a layer's tar -> the names that this file has in the tree."""


def flatten(store: Store, layers: Sequence[Layer]) -> Iterator[Item]:
    """The merged tree of ``layers`` (lowest first), without whiteouts, each path once.

    First directories, links and devices, parents first and sorted; then files, in the order in which the layers' tars
    have them, each hard link right after the file that it is a name of.

    Raises what `open_tar` and `View` raise.
    """
    indexes = [layer_index(store, layer, layers[:number])[1] for number, layer in enumerate(layers)]
    files: list[_Files] = [{} for _ in layers]
    with View(store, layers) as view:
        for entry in view.walk():
            if not entry.path and all(index.get(b"") is None for index in indexes):
                continue  # no layer says anything about the root directory
            if entry.kind != REG:
                yield entry, None
                continue
            number, offset = _place(indexes, entry)
            files[number].setdefault(offset, []).append(entry)
    for layer, wanted in zip(layers, files, strict=True):
        if wanted:
            yield from _contents(store, layer, wanted)


def _place(indexes: list[LayerIndex], entry: Entry) -> tuple[int, int]:
    """The layer that a file of the merged tree is from, and where in its tar the content begins.

    It is the topmost layer that has anything at the path: a whiteout there, and the tree would not have the file. A
    hard link to a file of a lower layer leads on to that one.
    """
    path = entry.path
    for number in reversed(range(len(indexes))):
        found = indexes[number].get(path)
        if found is None:
            continue
        offset = indexes[number].content(path)
        if offset is not None:
            return number, offset
        path = found.link or path
    raise AssertionError(f"{entry.path!r} is in the tree, but in no layer")


def _contents(store: Store, layer: Layer, wanted: _Files) -> Iterator[Item]:
    with open_tar(store, layer) as tar:
        for found in tar:
            names = wanted.get(tar.offset) if found.kind == REG else None
            if not names:
                continue
            first = names[0]
            yield first._replace(link=b""), Body(tar, found)
            for other in names[1:]:
                yield other._replace(kind=LNK, link=first.path, size=0), None
