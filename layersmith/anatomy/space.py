"""What each layer of an image adds, changes and deletes, and what that wastes. In: an image. Out: `Space`.

Two figures tell of waste. ``wasted`` is exact: the bytes of files that a later layer overwrites or deletes, which are
carried along and never seen. ``efficiency`` is the one that dive's users know (wagoodman/dive,
dive/filetree/efficiency.go): over all paths, the smallest size that a path has in any layer, summed up, divided by the
sum of all sizes that it has; a deleted file counts as a size of 0, a deleted directory as what it held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from layersmith.anatomy.layers import history
from layersmith.dataclass import dataclass
from layersmith.layer.blob import layer_index
from layersmith.layer.entry import DIR, REG, Entry
from layersmith.layer.index import WHT

if TYPE_CHECKING:
    from layersmith.image import Image
    from layersmith.layer.index import LayerIndex
    from layersmith.oci.config import History
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

ADDED, CHANGED, DELETED = "A", "C", "D"


@dataclass(slots=True)
class LayerFile:
    """A path in a layer; ``change`` is `ADDED`, `CHANGED` or `DELETED` against the layers below.

    ``size`` is the content's length, 0 for a further name of a file. For what is not seen in the image ``gone`` is the
    number of the layer that overwrites or deletes it, else 0; then all of ``size`` is wasted.
    """

    path: bytes
    kind: bytes
    size: int
    change: str
    link: bytes = b""
    gone: int = 0


@dataclass(frozen=True, slots=True)
class LayerSpace:
    """A layer, its number from 1, the line of history that made it, and its files by path."""

    number: int
    layer: Layer
    history: History
    files: tuple[LayerFile, ...]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)

    @property
    def wasted(self) -> int:
        """Bytes of its files that a later layer overwrites or deletes."""
        return sum(file.size for file in self.files if file.gone)

    def count(self, change: str) -> int:
        return sum(file.change == change for file in self.files)


@dataclass(frozen=True, slots=True)
class Space:
    """An image's layers, lowest first, and dive's ``efficiency``, from 0 to 1."""

    layers: tuple[LayerSpace, ...]
    efficiency: float

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def wasted(self) -> int:
        return sum(layer.wasted for layer in self.layers)

    def largest(self, most: int) -> list[tuple[LayerSpace, LayerFile]]:
        """The largest files, in whichever layer they are."""
        found = [(layer, file) for layer in self.layers for file in layer.files if file.size]
        return sorted(found, key=lambda pair: (-pair[1].size, pair[1].path))[:most]

    def waste(self, most: int) -> list[tuple[LayerSpace, LayerFile]]:
        """The largest files that are overwritten or deleted."""
        return [pair for pair in self.largest(1 << 62) if pair[1].gone][:most]


def space(store: Store, image: Image) -> Space:
    """Take ``image`` apart; nothing is unpacked. Raises what `layersmith.layer.blob.layer_index` raises."""
    tree, efficiency = _Tree(), _Efficiency()
    found = []
    for line in history(image):
        if line.layer is None:
            continue
        _, index = layer_index(store, line.layer, image.layers[: line.number - 1])
        files = tuple(_layer_files(index, tree, efficiency, line.number))
        index.close()
        found.append(LayerSpace(line.number, line.layer, line.history, files))
    return Space(tuple(found), efficiency.score())


def _layer_files(index: LayerIndex, tree: _Tree, efficiency: _Efficiency, number: int) -> Iterator[LayerFile]:
    entries = list(index)
    # Whiteouts and opaque directories hide what lower layers have, never what their own layer has.
    for entry in entries:
        if entry.kind == WHT:
            efficiency.add(entry.path, tree.bytes_below(entry.path))
            tree.remove(entry.path, number)
        elif entry.kind == DIR and index.opaque(entry.path):
            tree.clear(entry.path, number)
    if index.opaque(b""):
        tree.clear(b"", number)
    for entry in entries:
        if entry.kind == WHT:
            yield LayerFile(entry.path, WHT, 0, DELETED)
        elif entry.path:
            file = tree.put(entry, number)
            if entry.kind == REG:
                efficiency.add(entry.path, file.size)
            yield file


class _Tree:
    """The files of the layers so far, as they are seen from above."""

    def __init__(self) -> None:
        self._files: dict[bytes, LayerFile] = {}
        self._children: dict[bytes, set[bytes]] = {}

    def put(self, entry: Entry, number: int) -> LayerFile:
        """Lay an entry over what was at its path."""
        before = self._files.get(entry.path)
        size = entry.size if entry.kind == REG and not entry.link else 0
        file = LayerFile(entry.path, entry.kind, size, CHANGED if before else ADDED, entry.link)
        if before is not None:
            before.gone = 0 if before.kind == DIR and entry.kind == DIR else number
            if entry.kind != DIR:
                self.clear(entry.path, number)
        self._files[entry.path] = file
        self._children.setdefault(entry.parent, set()).add(entry.path)
        return file

    def remove(self, path: bytes, number: int) -> None:
        """Take away what is at ``path``, and all below it."""
        self.clear(path, number)
        file = self._files.pop(path, None)
        if file is not None:
            file.gone = number
            self._children.get(path.rpartition(b"/")[0], set()).discard(path)

    def clear(self, path: bytes, number: int) -> None:
        """Take away all below ``path``."""
        todo = list(self._children.pop(path, ()))
        while todo:
            below = todo.pop()
            todo += self._children.pop(below, ())
            self._files.pop(below).gone = number

    def bytes_below(self, path: bytes) -> int:
        """What a directory holds; 0 for anything else, as dive has it."""
        total = 0
        todo = list(self._children.get(path, ()))
        while todo:
            below = todo.pop()
            todo += self._children.get(below, ())
            total += self._files[below].size
        return total


class _Efficiency:
    """Dive's figure: see the module."""

    def __init__(self) -> None:
        self._least: dict[bytes, int] = {}
        self._sum = 0

    def add(self, path: bytes, size: int) -> None:
        self._sum += size
        self._least[path] = min(size, self._least.get(path, size))

    def score(self) -> float:
        return sum(self._least.values()) / self._sum if self._sum else 1.0
