"""SQUASH: layers made one. In: an `Image`. Out: the same files in fewer layers, without what was removed on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layersmith.dataclass import replace
from layersmith.image import Image
from layersmith.layer.compress import Compression
from layersmith.layer.entry import DIR, Entry, whiteout
from layersmith.layer.pack import ZSTD, pack
from layersmith.layer.view import View
from layersmith.oci.config import History
from layersmith.oci.descriptor import Layer
from layersmith.store import Store
from layersmith.transport.flatten import Placed, placed, with_content


def squash(
    store: Store, image: Image, *, keep: int = 0, compression: Compression = ZSTD, epoch: int | None = None
) -> Image:
    """``image`` with one layer instead of those above the lowest ``keep``.

    It holds their files as they are in the end, and whiteouts for what they removed of the kept layers. The history
    stays, and says last that layers were made one. ``epoch`` is as for `pack`.

    Raises:
        NotFoundError, DigestMismatchError, TransportError: a layer is missing or damaged.
    """
    squashed = len(image.layers) - keep
    if squashed <= 1:
        return image
    items = with_content(store, image.layers, tuple(_difference(store, image.layers, keep)))
    layer = pack(store, items, compression=compression, epoch=epoch).layer
    left = keep
    steps = []
    for entry in image.config.history:
        steps.append(replace(entry, empty_layer=entry.empty_layer or left <= 0))
        left -= not entry.empty_layer
    made = History(created=image.config.created, comment=f"squashed from {squashed} layers")
    config = replace(
        image.config, diff_ids=(*image.config.diff_ids[:keep], layer.diff_id), history=(*steps, made)
    )
    return replace(image, config=config, layers=(*image.layers[:keep], layer))


def _difference(store: Store, layers: Sequence[Layer], keep: int) -> Iterator[Placed]:
    """What has to be put on the lowest ``keep`` layers to get the tree of all of them; parents come first.

    A directory is there, too, if something in it changed: a layer without it would depend on what lies below.
    """
    with View(store, layers) as whole, View(store, layers[:keep]) as below:
        entries = placed(store, layers)
        waiting: list[Entry] = []
        if not entries or entries[0][0].path:
            yield from ((whiteout(path), None) for path in _gone(below, whole, b""))
        for entry, place in entries:
            while waiting and not _holds(waiting[-1], entry):
                waiting.pop()
            before = below.lookup(entry.path)
            same = entry == before and (place is None or place[0] < keep)
            merged = before is not None and before.kind == entry.kind == DIR
            gone = tuple(_gone(below, whole, entry.path)) if merged else ()
            if entry.kind == DIR:
                waiting.append(entry)
            if same and not gone:
                continue
            for directory in waiting:
                yield directory, None
            waiting.clear()
            if entry.kind != DIR:
                yield entry, place
            for path in gone:
                yield whiteout(path), None


def _holds(directory: Entry, entry: Entry) -> bool:
    return not directory.path or entry.path.startswith(directory.path + b"/")


def _gone(below: View, whole: View, directory: bytes) -> Iterator[bytes]:
    for child in below.children(directory):
        if whole.lookup(child.path) is None:
            yield child.path
