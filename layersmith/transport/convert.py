"""Images in another form: other compression of the layers, Docker's media types, annotations. In, out: an `Image`.

The files stay the same, and but for `squash` the DiffIDs as well; blobs, and with them digests, change.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from layersmith.errors import DigestMismatchError
from layersmith.image import Image
from layersmith.layer.compress import Compression, decompress
from layersmith.layer.pack import ZSTD, pack
from layersmith.layer.tar import PIECE
from layersmith.oci import mediatype
from layersmith.oci.config import History
from layersmith.oci.descriptor import Layer
from layersmith.oci.digest import Digest, encoded
from layersmith.store import Store
from layersmith.transport.flatten import flatten


def recompress(store: Store, image: Image, compression: Compression, *, force: bool = False) -> Image:
    """``image`` with layers compressed by ``compression``. Without ``force`` only layers by another algorithm change.

    Foreign layers stay as they are, for they have to be fetched from where their URLs say.

    Raises:
        NotFoundError, DigestMismatchError, TransportError: a layer is missing or damaged.
    """
    layers = tuple(_recompressed(store, layer, compression, force=force) for layer in image.layers)
    return replace(image, layers=layers)


def _recompressed(store: Store, layer: Layer, compression: Compression, *, force: bool) -> Layer:
    media_type = layer.descriptor.media_type
    if mediatype.is_foreign(media_type):
        return layer
    if not force and mediatype.compression(media_type) == compression.algorithm:
        return layer
    diff_id, digest, size = hashlib.sha256(), hashlib.sha256(), 0
    compressor = compression.compressor()
    with store.blobs.open(layer.descriptor) as reader, store.blobs.writer() as writer:
        plain = decompress(reader)
        buffer = memoryview(bytearray(PIECE))
        while length := plain.fill(buffer):
            piece = buffer[:length]
            diff_id.update(piece)
            packed = compressor.compress(piece)
            digest.update(packed)
            size += writer.write(packed)
        packed = compressor.flush()
        digest.update(packed)
        size += writer.write(packed)
        if diff_id.hexdigest() != encoded(layer.diff_id):
            raise DigestMismatchError(
                f"layer {layer.descriptor.digest} does not hold {layer.diff_id}, which its image's config names"
            )
        result = Digest("sha256:" + digest.hexdigest())
        writer.commit(result, size)
    return Layer(
        replace(
            layer.descriptor,
            media_type=mediatype.layer_type(compression.algorithm),
            digest=result,
            size=size,
        ),
        layer.diff_id,
    )


def squash(store: Store, image: Image, *, compression: Compression = ZSTD, epoch: int | None = None) -> Image:
    """``image`` with one layer, which holds its files as they are in the end, and nothing that was removed.

    The history stays, and says last that the layers were made one. ``epoch`` is as for `pack`.
    """
    layer = pack(store, flatten(store, image.layers), compression=compression, epoch=epoch).layer
    steps = tuple(replace(entry, empty_layer=True) for entry in image.config.history)
    made = History(created=image.config.created, comment=f"squashed from {len(image.layers)} layers")
    config = replace(image.config, diff_ids=(layer.diff_id,), history=(*steps, made))
    return replace(image, config=config, layers=(layer,))


def annotated(image: Image, values: dict[str, str]) -> Image:
    """``image`` with these annotations on its manifest."""
    return replace(image, annotations=tuple(sorted({**dict(image.annotations), **values}.items())))
