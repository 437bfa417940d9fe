"""Images in another form: compression, times, media types, annotations. In: a descriptor, an `Output`. Out: another.

The files stay the same, and but for older times the DiffIDs as well; blobs, and with them digests, change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from layersmith.dataclass import dataclass, replace
from layersmith.errors import DigestMismatchError, UsageError
from layersmith.image import Image
from layersmith.layer.blob import open_tar
from layersmith.layer.compress import Compression, decompress
from layersmith.layer.entry import REG, Item
from layersmith.layer.pack import pack
from layersmith.layer.tar import PIECE
from layersmith.layer.tar.reader import Body, TarReader
from layersmith.oci import mediatype
from layersmith.oci.descriptor import ATTESTATION, ATTESTED, Descriptor, Layer
from layersmith.oci.digest import Digest, encoded
from layersmith.oci.document import Annotations
from layersmith.oci.manifest import Index, parse_manifest
from layersmith.oci.platform import Platform, matches
from layersmith.oci.timestamp import parse_rfc3339, rfc3339
from layersmith.store import Store
from layersmith.transport.output import Output


@dataclass(frozen=True, slots=True)
class Conversion:
    """To the form that ``output`` asks for; ``epoch`` (seconds) is for its rewrite-timestamp."""

    store: Store
    output: Output
    epoch: int | None = None

    def __call__(self, descriptor: Descriptor) -> Descriptor:
        """The image at ``descriptor``, or the index with each of its images, in that form.

        Raises:
            UsageError: annotations for what this image does not have.
            NotFoundError, DigestMismatchError, TransportError: a layer is missing or damaged.
        """
        self._check(descriptor)
        if not mediatype.is_index(descriptor.media_type):
            return self._image(descriptor)
        index = parse_manifest(self.store.blobs.read(descriptor), descriptor.media_type)
        assert isinstance(index, Index)
        media_type = self._type(index.media_type, mediatype.OCI_INDEX, mediatype.DOCKER_INDEX)
        converted = replace(
            index,
            media_type=media_type,
            manifests=self._children(index.manifests),
            annotations=_merged(index.annotations, self._annotations("index")),
        )
        if converted != index:
            data = converted.to_json()
            descriptor = Descriptor(media_type, self.store.blobs.put(data), len(data))
        return descriptor.annotated(**self._annotations("index-descriptor"))

    def _check(self, descriptor: Descriptor) -> None:
        annotations = self.output.annotations
        if annotations and self.output.oci_media_types is False:
            raise UsageError(
                "Docker's media types know no annotations", hint="leave oci-mediatypes=false out"
            )
        if not mediatype.is_index(descriptor.media_type):
            for annotation in annotations:
                if annotation.level in ("index", "index-descriptor"):
                    raise UsageError(
                        f"the annotation {annotation.key!r} is for an index, but this image has none",
                        hint="an image for several platforms has one",
                    )

    def _children(self, children: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        """Converted; what is stated about one of them is then stated about what became of it."""
        converted = {
            child.digest: self._child(child) for child in children if not child.annotation(ATTESTATION)
        }
        found = []
        for child in children:
            about = converted.get(Digest(child.annotation(ATTESTED) or ""))
            if child.digest in converted:
                child = converted[child.digest]
            elif about is not None:
                child = child.annotated(**{ATTESTED: about.digest})
            found.append(child)
        return tuple(found)

    def _child(self, child: Descriptor) -> Descriptor:
        if not self.store.blobs.has(child.digest):
            return child
        done = self._image(child)
        return replace(
            child,
            media_type=done.media_type,
            digest=done.digest,
            size=done.size,
            annotations=_merged(child.annotations, dict(done.annotations)),
        )

    def _image(self, descriptor: Descriptor) -> Descriptor:
        media_type = self._type(descriptor.media_type, mediatype.OCI_MANIFEST, mediatype.DOCKER_MANIFEST)
        if media_type == descriptor.media_type and not self._changes:
            return descriptor  # which may as well be no container image
        image = Image.read(self.store, descriptor)
        platform = image.config.platform
        annotations = self._annotations("manifest", platform)
        changed = replace(image, annotations=_merged(image.annotations, annotations))
        if self.output.rewrite_timestamp and self.epoch is not None:
            changed = with_older_times(self.store, changed, self.epoch)
        compression = self.output.compression
        if compression is None and self.output.type == "docker" and _has_zstd(image):
            compression = Compression("gzip")  # `docker load` before version 23 knows no zstd
        if compression is not None:
            changed = recompress(self.store, changed, compression, force=self.output.force_compression)
        if changed != image or media_type != descriptor.media_type:
            descriptor = changed.write(self.store, docker=media_type == mediatype.DOCKER_MANIFEST)
        return descriptor.annotated(**self._annotations("manifest-descriptor", platform))

    @property
    def _changes(self) -> bool:
        output = self.output
        return bool(
            output.type == "docker"
            or output.compression is not None
            or output.annotations
            or output.rewrite_timestamp
        )

    def _type(self, now: str, oci: str, docker: str) -> str:
        return {True: oci, False: docker, None: now}[self.output.oci_media_types]

    def _annotations(self, level: str, platform: Platform | None = None) -> dict[str, str]:
        return {
            annotation.key: annotation.value
            for annotation in self.output.annotations
            if annotation.level == level
            and (platform is None or annotation.platform is None or matches(annotation.platform, platform))
        }


def _merged(annotations: Annotations, more: dict[str, str]) -> Annotations:
    return tuple(sorted({**dict(annotations), **more}.items()))


def _has_zstd(image: Image) -> bool:
    return any(mediatype.compression(layer.descriptor.media_type) == "zstd" for layer in image.layers)


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


def with_older_times(store: Store, image: Image, epoch: int) -> Image:
    """``image`` with every time later than ``epoch`` (seconds) lowered to it: of files, of its config and history.

    A layer without such a time stays as it is. Foreign layers do in any case.

    Raises:
        NotFoundError, DigestMismatchError, TransportError: a layer is missing or damaged.
    """
    layers = tuple(_older(store, layer, epoch) for layer in image.layers)
    latest = rfc3339(epoch)

    def lowered(time: str | None) -> str | None:
        at = None if time is None else parse_rfc3339(time)
        return time if at is None or at <= epoch else latest

    config = replace(
        image.config,
        diff_ids=tuple(layer.diff_id for layer in layers),
        created=lowered(image.config.created),
        history=tuple(replace(entry, created=lowered(entry.created)) for entry in image.config.history),
    )
    return replace(image, config=config, layers=layers)


def _older(store: Store, layer: Layer, epoch: int) -> Layer:
    media_type = layer.descriptor.media_type
    if mediatype.is_foreign(media_type):
        return layer
    with open_tar(store, layer) as tar:
        newer = max((entry.mtime for entry in tar), default=epoch) > epoch
    if not newer:
        return layer
    compression = Compression(mediatype.compression(media_type) or "none")
    with open_tar(store, layer) as tar:
        return pack(store, _items(tar), compression=compression, epoch=epoch).layer


def _items(tar: TarReader) -> Iterator[Item]:
    for entry in tar:
        yield entry, Body(tar, entry) if entry.kind == REG else None
