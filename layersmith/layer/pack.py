"""LAYER: items to a blob in the store, in one pass. In: `Item`s. Out: a `Layer` and its file index.

The calling thread walks, reads and lays out the tar; two more take its pieces, one for the DiffID, one for
compressing, the digest and the blob.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.layer.compress import Compression
from layersmith.layer.entry import Item, kept_xattr
from layersmith.layer.index import index_path
from layersmith.layer.index_writer import index_writer
from layersmith.layer.pipeline import Pipeline
from layersmith.layer.place import Placement
from layersmith.layer.tar.writer import TarWriter
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, Digest

if TYPE_CHECKING:
    from layersmith.store import BlobWriter, Store


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer now in the store; ``entries`` counts its tar's entries, ``size`` is the tar's length in bytes."""

    layer: Layer
    entries: int
    size: int


ZSTD = Compression()
_WRITEBACK = 8 << 20
"""Bytes of a blob after which the disk is set to work on them."""


def pack(
    store: Store,
    items: Iterable[Item],
    *,
    compression: Compression = ZSTD,
    epoch: int | None = None,
) -> Packed:
    """Write ``items`` as a layer: tar, SHA-256 (DiffID), compression, SHA-256 (digest), blob, and the file index.

    ``epoch`` (SOURCE_DATE_EPOCH, seconds) lowers newer mtimes to it. The same items give the same bytes on every
    machine with the same libzstd or ISA-L (`Compression.describe`). May be called from several threads at once. An
    error of the items' iterator is raised here, and then neither blob nor index exists.
    """
    with ExitStack() as stack:
        blob = _Blob(stack.enter_context(store.blobs.writer()), compression)
        diff_id = hashlib.sha256()
        pipeline = stack.enter_context(Pipeline(diff_id.update, blob.add))
        index = index_writer(store)
        stack.callback(index.abort)
        placement = Placement()
        tar = TarWriter(pipeline.emit, pipeline.buffer())
        entries = 0
        for entry, content in items:
            if entry.xattrs and not all(kept_xattr(name) for name, _ in entry.xattrs):
                entry = entry._replace(xattrs=tuple(pair for pair in entry.xattrs if kept_xattr(pair[0])))
            if epoch is not None and entry.mtime > epoch:
                entry = entry._replace(mtime=epoch)
            offset = tar.add(entry, content)
            entries += 1
            placed = placement.place(entry)
            if placed is not None:
                for directory in placed[1]:
                    index.add(directory)
                index.add(placed[0], offset)
        tar.close()
        pipeline.finish()
        layer = blob.commit(DiffID("sha256:" + diff_id.hexdigest()))
        index.finish(index_path(store, layer.diff_id), placement)
        return Packed(layer, entries, tar.size)


class _Blob:
    """The last station of the pipeline: compresses, digests and writes."""

    def __init__(self, writer: BlobWriter, compression: Compression) -> None:
        self._writer = writer
        self._compression = compression
        self._compressor = compression.compressor()
        self._hasher = hashlib.sha256()
        self._size = 0
        self._sent = 0

    def add(self, piece: memoryview) -> None:
        self._write(self._compressor.compress(piece))

    def commit(self, diff_id: DiffID) -> Layer:
        self._write(self._compressor.flush())
        digest = Digest("sha256:" + self._hasher.hexdigest())
        self._writer.commit(digest, self._size)
        return Layer(Descriptor(self._compression.media_type, digest, self._size), diff_id)

    def _write(self, data: bytes | memoryview) -> None:
        if data:
            self._hasher.update(data)
            self._writer.write(data)
            self._size += len(data)
            if self._size - self._sent >= _WRITEBACK:
                # On pages just written this does not drop them, but starts to write them out (mm/fadvise.c): then
                # the fsync in commit finds little left to wait for.
                length = self._size - self._sent
                os.posix_fadvise(self._writer.fileno(), self._sent, length, os.POSIX_FADV_DONTNEED)
                self._sent = self._size
