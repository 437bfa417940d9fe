"""`Image`: a config and its layers, as a value. In: a descriptor in a store, or `SCRATCH`. Out: a new descriptor.

Nothing is written before `Image.write`; every change makes a new Image, and config and layers can't drift apart.
"""

from __future__ import annotations

from typing import Self

from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, TransportError
from layersmith.oci import mediatype
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import ATTESTATION, Descriptor, Layer
from layersmith.oci.document import Annotations
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.oci.platform import Platform, best, native
from layersmith.store import Store

INLINE_CACHE = "layersmith.cache.v1"
"""The member of an image's config with the cache records of its layers (``--cache-to type=inline``)."""

_STALE = frozenset(
    {"id", "parent", "container", "container_config", "docker_version", "config/Image", INLINE_CACHE}
)
"""Members that say how Docker made one particular image: wrong in any image made from it."""

_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Image:
    """``layers`` are the lowest first, with the DiffIDs of ``config.diff_ids``."""

    config: ImageConfig
    layers: tuple[Layer, ...] = ()
    annotations: Annotations = ()

    def append(self, layer: Layer | None, history: History) -> Image:
        """With one more layer (or None: a step that changed no file) and its history."""
        entry = replace(history, empty_layer=layer is None)
        config = replace(
            self.config,
            history=(*self.config.history, entry),
            extra=tuple(pair for pair in self.config.extra if pair[0] not in _STALE),
        )
        if layer is None:
            return replace(self, config=config)
        config = replace(config, diff_ids=(*config.diff_ids, layer.diff_id))
        return replace(self, config=config, layers=(*self.layers, layer))

    def configured(self, config: ImageConfig) -> Image:
        """With the settings of ``config``, but this image's own layers and history."""
        return replace(
            self, config=replace(config, diff_ids=self.config.diff_ids, history=self.config.history)
        )

    def write(self, store: Store, *, docker: bool = False) -> Descriptor:
        """Put config and manifest; the manifest's descriptor, with the platform. ``docker``: schema 2 media types.

        The layers' blobs are in the store, or foreign.
        """
        data = self.config.to_json()
        config_type = mediatype.DOCKER_CONFIG if docker else mediatype.OCI_CONFIG
        config = Descriptor(config_type, store.blobs.put(data), len(data))
        manifest = Manifest(
            config,
            tuple(_typed(layer.descriptor, docker=docker) for layer in self.layers),
            annotations=self.annotations,
            media_type=mediatype.DOCKER_MANIFEST if docker else mediatype.OCI_MANIFEST,
        ).to_json()
        digest = store.blobs.put(manifest)
        media_type = mediatype.DOCKER_MANIFEST if docker else mediatype.OCI_MANIFEST
        return Descriptor(media_type, digest, len(manifest), platform=self.config.platform)

    @classmethod
    def read(cls, store: Store, descriptor: Descriptor, platform: Platform | None = None) -> Self:
        """The image at ``descriptor``, of an index the one for ``platform`` (default: this machine's).

        Raises:
            NotFoundError: the index has none for the platform, or a blob is missing.
            DigestMismatchError: a blob is damaged.
            TransportError: a document is malformed, or not that of a container image.
        """
        manifest = read_manifest(store, descriptor, platform)
        if not mediatype.is_config(manifest.config.media_type):
            raise TransportError(
                f"{descriptor.digest} is an artifact ({manifest.artifact_type or manifest.config.media_type}), "
                "not a container image"
            )
        config = ImageConfig.from_json(store.blobs.read(manifest.config))
        if len(config.diff_ids) != len(manifest.layers):
            raise TransportError(
                f"image {descriptor.digest} has {len(manifest.layers)} layers, but its config names "
                f"{len(config.diff_ids)}"
            )
        for layer in manifest.layers:
            if not mediatype.is_layer(layer.media_type):
                raise TransportError(
                    f"image {descriptor.digest}: unknown layer media type {layer.media_type!r}"
                )
        store.pin(*(layer.digest for layer in manifest.layers), *config.diff_ids)
        layers = tuple(map(Layer, manifest.layers, config.diff_ids))
        return cls(config, layers, manifest.annotations)


def SCRATCH(platform: Platform | None = None) -> Image:
    """The image without files, settings or history."""
    return Image(ImageConfig(platform=platform or native()))


def read_manifest(store: Store, descriptor: Descriptor, platform: Platform | None = None) -> Manifest:
    """The manifest at ``descriptor``, or the one for ``platform`` in the index there. Errors as of `Image.read`."""
    return _resolve(store, descriptor, platform)[1]


def select(store: Store, descriptor: Descriptor, platform: Platform | None = None) -> Descriptor:
    """The descriptor of the manifest that `read_manifest` reads."""
    return _resolve(store, descriptor, platform)[0]


def _resolve(store: Store, descriptor: Descriptor, platform: Platform | None) -> tuple[Descriptor, Manifest]:
    for _ in range(_DEPTH):
        document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
        if isinstance(document, Manifest):
            return descriptor, document
        descriptor = choose(document, platform or native())
    raise TransportError(f"index {descriptor.digest} is nested more than {_DEPTH} deep")


def choose(index: Index, platform: Platform) -> Descriptor:
    """The manifest of ``index`` for ``platform``.

    Raises:
        NotFoundError: there is none.
    """
    images = [entry for entry in index.manifests if entry.annotation(ATTESTATION) is None]
    found = best(platform, [entry.platform for entry in images])
    if found is not None:
        return images[found]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    there = ", ".join(str(entry.platform or "unknown") for entry in images) or "none"
    raise NotFoundError(f"no image for {platform} in this index", hint=f"there are: {there}")


def _typed(descriptor: Descriptor, *, docker: bool) -> Descriptor:
    """A layer's descriptor with the media type of the wanted family; foreign layers keep theirs."""
    compression = mediatype.compression(descriptor.media_type)
    if compression is None or mediatype.is_foreign(descriptor.media_type):
        return descriptor
    return replace(descriptor, media_type=mediatype.layer_type(compression, docker=docker))
