"""The files of a stack of layers as one tree: what a container of the image would see. In: layers. Out: `Item`s.

Nothing is unpacked for it: which layer a file is from is known from the file indexes, and the blobs are read side by
side, each once and from its beginning to its end, as the tree's order comes by their files. That works for every tar
in the order of its paths, which ours are; of any other, the files that are needed are set aside first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from layersmith.layer.blob import layer_index, open_tar
from layersmith.layer.entry import LNK, REG, Entry, Item, Readable
from layersmith.layer.index import LayerIndex
from layersmith.layer.tar.reader import Body, TarReader
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store
from layersmith.store.files import storing, write_all

_PIECE = 1 << 20
Place = tuple[int, int]
"""The number of a layer, and where in its tar a file's content begins."""
Placed = tuple[Entry, Place | None]
"""An entry, and the place of its content: None for all but REG."""


def flatten(store: Store, layers: Sequence[Layer]) -> Iterator[Item]:
    """The merged tree of ``layers`` (lowest first), without whiteouts: each path once, sorted, parents first.

    Raises what `open_tar` and `View` raise. When the iterator ends, every byte was found to be what its digest says.
    """
    yield from with_content(store, layers, placed(store, layers))


def with_content(store: Store, layers: Sequence[Layer], entries: Sequence[Placed]) -> Iterator[Item]:
    """``entries`` with what is at their places; those that share one are hard links. Raises as `flatten`."""
    with ExitStack() as stack:
        sources: dict[int, _Source] = {}
        for number in sorted({place[0] for _, place in entries if place is not None}):
            offsets = list(dict.fromkeys(place[1] for _, place in entries if place and place[0] == number))
            sources[number] = _open(store, layers[number], offsets, stack)
        names: dict[Place, bytes] = {}
        for entry, place in entries:
            if place is None:
                yield entry, None
            elif place in names:
                yield entry._replace(kind=LNK, link=names[place], size=0), None
            else:
                names[place] = entry.path
                yield entry._replace(link=b""), sources[place[0]].content(place[1])


def placed(store: Store, layers: Sequence[Layer]) -> list[Placed]:
    """The merged tree of ``layers``, without anything of its root directory if no layer says anything about that."""
    indexes = [layer_index(store, layer, layers[:number])[1] for number, layer in enumerate(layers)]
    with View(store, layers) as view:
        entries = [(entry, _place(indexes, entry) if entry.kind == REG else None) for entry in view.walk()]
    if all(index.get(b"") is None for index in indexes):
        del entries[0]  # no layer says anything about the root directory
    return entries


def _place(indexes: list[LayerIndex], entry: Entry) -> Place:
    """The topmost layer that has anything at the path: were it a whiteout, the tree would not have the file.

    A hard link to a file of a lower layer leads on to that one.
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


class _Source(Protocol):
    def content(self, offset: int) -> Readable:
        """The file whose content begins there in the layer's tar."""
        ...


def _open(store: Store, layer: Layer, offsets: list[int], stack: ExitStack) -> _Source:
    """A source of the files at ``offsets``, which will be asked for in this order."""
    if offsets == sorted(offsets):
        return _InOrder(stack.enter_context(open_tar(store, layer)))
    aside = _SetAside(store)
    stack.callback(aside.close)
    with open_tar(store, layer) as tar:
        aside.take(tar, frozenset(offsets))
    return aside


class _InOrder:
    """A tar that is read on to each file in turn."""

    def __init__(self, tar: TarReader) -> None:
        self._tar = tar

    def content(self, offset: int) -> Readable:
        for found in self._tar:
            if found.kind == REG and self._tar.offset == offset:
                return Body(self._tar, found)
        raise AssertionError("the file index names a place that the tar does not have")


class _SetAside:
    """Files of a tar in a temporary file."""

    def __init__(self, store: Store) -> None:
        path = store.session.new_path("files")
        with storing(path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            path.unlink()
        self._path = path
        self._spans: dict[int, tuple[int, int]] = {}

    def take(self, tar: TarReader, offsets: frozenset[int]) -> None:
        end = 0
        for found in tar:
            offset = tar.offset
            if found.kind != REG or offset not in offsets:
                continue
            body = Body(tar, found)
            with storing(self._path):
                while piece := body.read(_PIECE):
                    write_all(self._fd, piece)
            self._spans[offset] = (end, found.size)
            end += found.size

    def content(self, offset: int) -> Readable:
        return _Span(self._fd, *self._spans[offset])

    def close(self) -> None:
        os.close(self._fd)


class _Span:
    """A part of a file as a stream."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = fd
        self._at = start
        self._end = start + size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data
