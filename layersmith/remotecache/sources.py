"""Where a cache is read. In: a `CacheOption`. Out: a `CacheSource`, which gives manifests and, one by one, blobs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from layersmith.dataclass import replace
from layersmith.errors import NotFoundError, TransportError
from layersmith.oci.descriptor import REF_NAME, Descriptor
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.remotecache.options import CacheOption
from layersmith.store import Store
from layersmith.transport.files import Files, open_files, read_file
from layersmith.transport.layout import blob_path, check

if TYPE_CHECKING:
    from layersmith.oci.reference import Reference
    from layersmith.progress import Progress
    from layersmith.transport.registry import Registry

MAX_MANIFESTS = 32
"""Images of an index that are asked for their inline cache."""


class CacheSource(Protocol):
    """A cache somewhere; ``name`` is what messages call it."""

    name: str

    def manifests(self, store: Store) -> tuple[Manifest, ...]:
        """The cache's manifest, or those of the images with an inline cache; their configs are then in ``store``.

        Raises:
            NotFoundError: there is no cache.
            TransportError: it can't be read.
        """
        ...

    def fetch(self, store: Store, descriptor: Descriptor) -> None:
        """Bring one blob into ``store``. Raises NotFoundError, TransportError."""
        ...

    def close(self) -> None: ...


def open_source(store: Store, option: CacheOption, progress: Progress) -> CacheSource:
    """The source that ``option`` names. Raises TransportError where there is nothing to read."""
    given = option.attributes
    if option.type == "registry":
        return RegistrySource(given["ref"], progress)
    if option.type in ("local", "tar"):
        path = Path(given["src"])
        if not path.exists():
            raise NotFoundError(f"there is no cache at {path}")
        return LayoutSource(open_files(store, path), given.get("digest") or option.tag)
    from layersmith.transport.objects import Objects, location

    return LayoutSource(Objects(*location(option.type, given)), option.tag)


class RegistrySource:
    """A cache artifact, or an image with an inline cache, at a registry."""

    def __init__(self, text: str, progress: Progress) -> None:
        from layersmith.transport.registry import Registry

        self._registry: Registry = Registry(progress=progress)
        self._reference: Reference = self._registry.config.reference(text)
        self.name = self._reference.familiar()

    def manifests(self, store: Store) -> tuple[Manifest, ...]:
        return self._registry.documents(store, self._reference, limit=MAX_MANIFESTS)

    def fetch(self, store: Store, descriptor: Descriptor) -> None:
        self._registry.fetch_blob(store, self._reference, descriptor)

    def close(self) -> None:
        self._registry.close()


class LayoutSource:
    """A cache in an OCI layout: a directory, an archive, or an object store. ``which`` is its tag or digest."""

    def __init__(self, files: Files, which: str) -> None:
        self._files = files
        self._which = which
        self.name = files.name

    def manifests(self, store: Store) -> tuple[Manifest, ...]:
        if self._files.size("index.json") is None:
            raise NotFoundError(f"there is no cache in {self.name}")
        index = Index.from_json(read_file(self._files, "index.json", limit=MAX_DOCUMENT))
        entry = self._entry(index.manifests)
        document = parse_manifest(self._document(entry), entry.media_type)
        found = [document] if isinstance(document, Manifest) else list(self._images(document))
        for manifest in found:
            config = replace(manifest.config, urls=())
            if config.size > MAX_DOCUMENT:
                raise TransportError(f"{self.name}: a config of {config.size} bytes")
            self.fetch(store, config)
        return tuple(found)

    def _entry(self, entries: Iterable[Descriptor]) -> Descriptor:
        for entry in entries:
            if self._which in (entry.digest, entry.annotation(REF_NAME)):
                return entry
        raise NotFoundError(f"{self.name} has no cache called {self._which!r}")

    def _images(self, index: Index) -> Iterable[Manifest]:
        for entry in index.manifests[:MAX_MANIFESTS]:
            document = parse_manifest(self._document(entry), entry.media_type)
            if isinstance(document, Manifest):
                yield document

    def _document(self, descriptor: Descriptor) -> bytes:
        data = read_file(self._files, blob_path(descriptor.digest), limit=MAX_DOCUMENT)
        check(descriptor, data, self.name)
        return data

    def fetch(self, store: Store, descriptor: Descriptor) -> None:
        path = blob_path(descriptor.digest)
        if not store.blobs.has(descriptor.digest) and self._files.size(path) is None:
            raise NotFoundError(f"{self.name} has no blob {descriptor.digest}")
        store.blobs.ingest(descriptor, self._files.chunks(path))

    def close(self) -> None:
        self._files.close()
