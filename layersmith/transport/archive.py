"""The archives of `docker save`: a tar with manifest.json. In: files, or a store. Out: the other.

What is written is an OCI layout as well, as BuildKit's ``type=docker`` and Docker 25's own are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from layersmith.errors import TransportError, UsageError
from layersmith.image import Image
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import Digest
from layersmith.oci.document import MAX_DOCUMENT, Fields, canonical, parse_object
from layersmith.oci.manifest import Manifest
from layersmith.oci.reference import parse_reference
from layersmith.store import Store
from layersmith.transport.files import Files, read_file
from layersmith.transport.layout import Loaded, blob_path, save_layout
from layersmith.transport.sinks import Sink

_MAGIC = (
    (b"\x1f\x8b", mediatype.OCI_LAYER_GZIP),
    (b"\x28\xb5\x2f\xfd", mediatype.OCI_LAYER_ZSTD),
    (b"BZh", ""),
    (b"\xfd7zXZ\0", ""),
)
_MAX_LAYERS = 10_000


def is_docker_archive(files: Files) -> bool:
    """Whether ``files`` are what `docker save` writes since Docker 1.10."""
    return files.size("manifest.json") is not None


def load_docker_archive(store: Store, files: Files) -> tuple[Loaded, ...]:
    """Copy the images of a docker-archive into ``store``. Their layers stay compressed as they are.

    Raises:
        TransportError: it is damaged or incomplete.
    """
    # The file is a list; an object makes it one that `parse_object` can check.
    data = read_file(files, "manifest.json", limit=MAX_DOCUMENT)
    entries = parse_object(b'{"images":' + data + b"}", f"{files.name}: manifest.json").objects("images")
    if not entries:
        raise TransportError(f"{files.name} has no images")
    return tuple(_load_image(store, files, entry) for entry in entries)


def _load_image(store: Store, files: Files, entry: Fields) -> Loaded:
    config_data = read_file(files, _inside(entry.required("Config")), limit=MAX_DOCUMENT)
    config = ImageConfig.from_json(config_data)
    paths = entry.texts("Layers")
    if len(paths) != len(config.diff_ids) or len(paths) > _MAX_LAYERS:
        raise TransportError(
            f"{files.name}: an image has {len(paths)} layers, but its config names {len(config.diff_ids)}"
        )
    layers = [_load_layer(store, files, _inside(path)) for path in paths]
    for layer, diff_id in zip(layers, config.diff_ids, strict=True):
        if layer.media_type == mediatype.OCI_LAYER and str(layer.digest) != diff_id:
            raise TransportError(
                f"{files.name}: a layer is damaged: it is {layer.digest} instead of {diff_id}"
            )
    config_descriptor = Descriptor(mediatype.OCI_CONFIG, store.blobs.put(config_data), len(config_data))
    manifest = Manifest(config_descriptor, tuple(layers)).to_json()
    descriptor = Descriptor(mediatype.OCI_MANIFEST, store.blobs.put(manifest), len(manifest))
    return Loaded(descriptor, _tags(entry.texts("RepoTags")))


def _tags(texts: Sequence[str]) -> tuple[str, ...]:
    names = []
    for text in texts:
        try:
            names.append(parse_reference(text).familiar())
        except UsageError:
            continue
    return tuple(names)


def _load_layer(store: Store, files: Files, path: str) -> Descriptor:
    """Store a layer whose digest nobody has told; its DiffID is checked here, or when it is unpacked."""
    hasher, size, media_type = hashlib.sha256(), 0, mediatype.OCI_LAYER
    with store.blobs.writer() as writer:
        for chunk in files.chunks(path):
            if size == 0:
                media_type = _media_type(chunk, f"{files.name}: {path}")
            hasher.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        digest = Digest("sha256:" + hasher.hexdigest())
        writer.commit(digest, size)
    return Descriptor(media_type, digest, size)


def _media_type(head: bytes, where: str) -> str:
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            if not media_type:
                raise TransportError(
                    f"{where} is compressed by a method that image layers can't have",
                    hint="layers are plain tars, gzip or zstd",
                )
            return media_type
    return mediatype.OCI_LAYER


def _inside(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))


def save_docker_archive(store: Store, descriptor: Descriptor, sink: Sink, names: Sequence[str] = ()) -> None:
    """Write one image for `docker load` (any version since 1.10), podman and skopeo's ``docker-archive:``.

    ``descriptor`` is of a manifest, not of an index. Layers go out as they are: `docker load` before version 23 knows
    no zstd, so the caller converts them first.

    Raises:
        NotFoundError, DigestMismatchError: a blob is missing or damaged.
    """
    image = Image.read(store, descriptor)
    manifest = Manifest.from_json(store.blobs.read(descriptor))
    save_layout(store, descriptor, sink, names)
    entry = {
        "Config": blob_path(manifest.config.digest),
        "RepoTags": [parse_reference(name).familiar() for name in names] or None,
        "Layers": [blob_path(layer.descriptor.digest) for layer in image.layers],
    }
    sink.data("manifest.json", canonical([entry]))
