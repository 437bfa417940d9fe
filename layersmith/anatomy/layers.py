"""One image, layer by layer. In: an `Image`. Out: `LayerSummary` and `HistoryLine` values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError
from layersmith.image import Image
from layersmith.layer.blob import layer_index
from layersmith.layer.entry import REG
from layersmith.layer.index import WHT
from layersmith.oci.config import History
from layersmith.oci.descriptor import Layer
from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A line of an image's history with the layer that it made, if any; ``number`` counts layers from 1, the lowest."""

    history: History
    number: int = 0
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """A layer of an image.

    ``files`` counts what it adds or replaces, directories included; ``removed`` its whiteouts; ``size`` is the sum of
    its files' sizes in bytes, hard links once. ``snapshot`` is where it lies unpacked, None if it does not.
    """

    number: int
    layer: Layer
    history: History
    files: int
    removed: int
    size: int
    snapshot: Path | None


def history(image: Image) -> tuple[HistoryLine, ...]:
    """An image's history, oldest first. Layers that it does not tell of come at the end, with an empty line each."""
    lines: list[HistoryLine] = []
    count = 0
    for entry in image.config.history:
        if entry.empty_layer or count == len(image.layers):
            lines.append(HistoryLine(entry))
        else:
            lines.append(HistoryLine(entry, count + 1, image.layers[count]))
            count += 1
    rest = enumerate(image.layers[count:], count + 1)
    return (*lines, *(HistoryLine(History(), number, layer) for number, layer in rest))


def layers(store: Store, image: Image) -> Iterator[LayerSummary]:
    """An image's layers, lowest first. Nothing is unpacked; a layer without a file index is read through.

    Raises what `layersmith.layer.blob.layer_index` raises.
    """
    for line in history(image):
        if line.layer is None:
            continue
        key, index = layer_index(store, line.layer, image.layers[: line.number - 1])
        files = removed = size = 0
        for entry in index:
            if entry.kind == WHT:
                removed += 1
            else:
                files += 1
                if entry.kind == REG and not entry.link:
                    size += entry.size
        index.close()
        yield LayerSummary(
            line.number,
            line.layer,
            line.history,
            files,
            removed,
            size,
            store.snapshots.find(key, images=True),
        )


def numbered(image: Image, number: int) -> int:
    """The layer that a person calls ``number`` as an index: 1 is the lowest, -1 the topmost.

    Raises:
        NotFoundError: there is no such layer.
    """
    count = len(image.layers)
    if number == 0 or abs(number) > count:
        raise NotFoundError(
            f"there is no layer {number}", hint=f"the image has {count}: 1 is the lowest, -1 the topmost"
        )
    return number - 1 if number > 0 else count + number
