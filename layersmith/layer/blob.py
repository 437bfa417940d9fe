"""A layer's blob read as a tar, verified on the way. In: a `Layer` in the store. Out: a `TarReader`, an index, a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import DigestMismatchError, StoreError
from layersmith.layer.compress import decompress
from layersmith.layer.entry import DIR, Entry
from layersmith.layer.index import LayerIndex, index_path, open_index
from layersmith.layer.index_writer import IndexWriter, index_writer
from layersmith.layer.pipeline import Feed
from layersmith.layer.place import Placement
from layersmith.layer.tar.reader import Body, TarReader, pieces, too_large
from layersmith.layer.tar.writer import PIECE
from layersmith.oci.descriptor import Layer

if TYPE_CHECKING:
    from layersmith.layer.view import View
    from layersmith.store import Store
from layersmith.store.store import MAX_LAYER_SIZE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a layer may hold at most: bytes of its uncompressed tar (sparse files count in full), and entries."""

    max_size: int = MAX_LAYER_SIZE
    max_entries: int = 10_000_000


@contextmanager
def open_tar(
    store: Store,
    layer: Layer,
    limits: Limits | None = None,
    *,
    also: Callable[[memoryview], None] | None = None,
) -> Iterator[TarReader]:
    """The layer's tar, read as `open_plain` reads it. ``also`` gets its bytes, too; it must not keep them.

    ``limits`` are the store's own unless given. The blob's media type is not asked how it is compressed: the bytes say so themselves.

    Raises:
        NotFoundError, DigestMismatchError: the blob is missing or damaged.
        TransportError, HostileInputError: it is not a tar, or beyond ``limits``.
    """
    limits = limits or Limits(store.max_layer_size)
    with open_plain(store, layer, max_size=limits.max_size, also=also) as pieces:
        yield TarReader(pieces, max_size=limits.max_size, max_entries=limits.max_entries)


@contextmanager
def open_plain(
    store: Store, layer: Layer, *, max_size: int, also: Callable[[memoryview], None] | None = None
) -> Iterator[Feed]:
    """The bytes of the layer's tar, in pieces that stay valid until the next one is asked for.

    When the block ends without an error, all had been read, and blob and tar were found to be what their digests say.
    Raises as `open_tar`.
    """
    diff_id = hashlib.sha256()
    size = 0

    def station(piece: memoryview) -> None:
        nonlocal size
        size += len(piece)
        if size > max_size:
            raise too_large(max_size)
        diff_id.update(piece)
        if also is not None:
            also(piece)

    with store.blobs.open(layer.descriptor) as blob:
        feed = Feed(decompress(blob).fill, station)
        try:
            yield feed
        finally:
            feed.close()
        # A compressed stream may end before its blob does; only the blob's end verifies it.
        while blob.read(1 << 16):
            pass
    if "sha256:" + diff_id.hexdigest() != layer.diff_id:
        raise DigestMismatchError(
            f"layer {layer.descriptor.digest} unpacks to sha256:{diff_id.hexdigest()}, "
            f"but its image says {layer.diff_id}",
            hint="the image is damaged or forged: its config and its layers don't belong together",
        )


def placed(tar: TarReader, placement: Placement, index: IndexWriter | None) -> Iterator[Entry]:
    """The entries of ``tar`` where they belong, missing parents before them; ``index`` gets each of them, too."""
    for given in tar:
        found = placement.place(given)
        if found is None:
            continue
        entry, implied = found
        for directory in implied:
            if index is not None:
                index.add(directory)
            yield directory
        if index is not None:
            index.add(entry, tar.offset, sparse=tar.sparse is not None)
        yield entry


def read_at(store: Store, layer: Layer, offset: int, size: int) -> Iterator[bytes]:
    """The ``size`` bytes of the layer's tar from ``offset`` on. Stops there, so nothing is verified."""
    with store.blobs.open(layer.descriptor) as blob:
        plain = decompress(blob)
        buffer = memoryview(bytearray(PIECE))
        at = 0
        end = offset + size
        while at < end:
            count = plain.fill(buffer)
            if not count:
                raise StoreError(
                    f"blob {layer.descriptor.digest} is shorter than its file index says",
                    hint="`layersmith fsck` finds out which of them is damaged",
                )
            if at + count > offset:
                yield bytes(buffer[max(0, offset - at) : min(count, end - at)])
            at += count


def read_sparse(store: Store, layer: Layer, offset: int) -> Iterator[bytes]:
    """The content of the sparse file whose parts begin at ``offset`` in the layer's tar; as `read_at`."""
    with store.blobs.open(layer.descriptor) as blob:
        reader = TarReader(pieces(decompress(blob)))
        for entry in reader:
            if reader.offset == offset and reader.sparse is not None:
                body = Body(reader, entry)
                yield from iter(partial(body.read, PIECE), b"")
                return


def layer_index(store: Store, layer: Layer, below: Sequence[Layer]) -> tuple[str, LayerIndex]:
    """The layer's key on ``below`` (lowest first; see `variant_key`) and its file index there, made if missing.

    Raises what `open_tar` raises, and HostileInputError for a tar that makes no sense on ``below``.
    """
    index = open_index(store, layer.diff_id) or _scan(store, layer, layer.diff_id, None)
    key = variant_key(store, layer, index, below)
    if key == layer.diff_id:
        return key, index
    return key, open_index(store, key) or _scan(store, layer, key, _view(store, below))


def variant_key(store: Store, layer: Layer, index: LayerIndex, below: Sequence[Layer]) -> str:
    """What the layer's files on ``below`` are stored under: the DiffID if they are the same as on nothing.

    Else ``DiffID+hash``, over what ``below`` has at the layer's external paths: attributes of directories; or, where
    anything else comes in (a symlink that a path leads through, a file that a hard link names), all of ``below``.
    """
    if not index.external or not below:
        return layer.diff_id
    view = _view(store, below)
    facts = [view.lookup(path) for path in index.external]
    if not any(facts):
        return layer.diff_id
    if all(fact is None or fact.kind == DIR for fact in facts):
        text = repr([fact and tuple(fact) for fact in facts])
    else:
        text = repr([lower.diff_id for lower in below])
    return f"{layer.diff_id}+{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _scan(store: Store, layer: Layer, key: str, below: View | None) -> LayerIndex:
    with store.lock(f"index-{key}"):
        found = open_index(store, key)
        if found is not None:
            return found
        writer = index_writer(store)
        try:
            placement = Placement(below)
            with open_tar(store, layer) as tar:
                for _ in placed(tar, placement, writer):
                    pass
            writer.finish(index_path(store, key), placement)
        finally:
            writer.abort()
    return LayerIndex(index_path(store, key), store.snapshots.boot)


def _view(store: Store, layers: Sequence[Layer]) -> View:
    from layersmith.layer.view import (
        View,
    )  # a View is made of indexes, and a variant's index by way of a View

    return View(store, layers)
