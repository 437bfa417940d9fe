"""PULL: from a registry into the store. In: an image's descriptor or name. Out: its blobs in the store, verified.

The sources are the mirrors and the registry itself, best first; each blob may come from any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol, TypeVar

from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, TransportError
from layersmith.image import choose
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.oci.platform import Platform
from layersmith.oci.reference import Reference
from layersmith.progress import Progress, Transfer
from layersmith.store.store import Store
from layersmith.transport.download import download
from layersmith.transport.http import Client, Response
from layersmith.transport.parallel import Task, run_all
from layersmith.transport.registry.repository import Repository, stated_type
from layersmith.transport.urls import redacted

OnLayer = Callable[[Layer, tuple[Layer, ...]], None]
"""Told of a layer, and of those below it, once its own blob is in the store; from several threads, in no order."""

S = TypeVar("S")
T = TypeVar("T")

MAX_DEPTH = 4
"""Indexes within indexes."""


@dataclass(frozen=True, slots=True)
class Puller:
    """What all of one pull shares."""

    store: Store
    client: Client
    sources: tuple[Repository, ...]
    progress: Progress
    jobs: int

    def top(self, reference: Reference) -> Descriptor:
        """What ``reference`` is: a digest from the store if it is there, else the registry is asked.

        A tag is asked for by HEAD first, which costs little and counts for no rate limit, and then, unless the store
        has it, fetched.
        """
        if reference.digest and self.store.blobs.has(reference.digest):
            size = self.store.blobs.size(reference.digest)
            data = self.store.blobs.read(Descriptor("", reference.digest, size))
            return Descriptor(stated_type(data) or mediatype.OCI_MANIFEST, reference.digest, size)

        def ask(source: Repository) -> Descriptor:
            head = None if reference.digest else source.head_manifest(reference.tag or "")
            if head and self.store.blobs.has(head.digest):
                return head
            found, data = source.get_manifest(
                reference.digest or (head.digest if head else reference.tag or "")
            )
            parse_manifest(data, found.media_type)
            self.store.blobs.put(data)
            return found

        return first_of(self.sources, ask)

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """The manifest or index that ``descriptor`` describes, from the store or else fetched into it."""
        if self.store.blobs.has(descriptor.digest):
            return parse_manifest(self.store.blobs.read(descriptor), descriptor.media_type)
        data = self._fetch_manifest(descriptor)
        document = parse_manifest(data, descriptor.media_type)
        self.store.blobs.put(data)
        return document

    def _fetch_manifest(self, descriptor: Descriptor) -> bytes:
        def fetch(source: Repository) -> bytes:
            found, data = source.get_manifest(descriptor.digest)
            if found.size != descriptor.size:
                raise TransportError(
                    f"{source.name}: the manifest {descriptor.digest} has {found.size} bytes, not {descriptor.size}"
                )
            return data

        return first_of(self.sources, fetch)

    def everything(self, descriptor: Descriptor, depth: int = 0) -> tuple[Manifest, ...]:
        """All manifests below ``descriptor``, each index and manifest fetched into the store."""
        document = self.manifest(descriptor)
        if isinstance(document, Manifest):
            return (document,)
        if depth == MAX_DEPTH:
            raise _too_deep(self.sources[-1].name)
        return tuple(found for entry in document.manifests for found in self.everything(entry, depth + 1))

    def image(self, manifest: Manifest, on_layer: OnLayer) -> None:
        """Fetch config and layers of one image; the config first, for it says what the layers are."""
        self._check_size(manifest.config)
        self.blob(manifest.config)
        config = ImageConfig.from_json(self.store.blobs.read(manifest.config))
        if len(config.diff_ids) != len(manifest.layers):
            raise TransportError(f"{self.sources[-1].name}: its config is of another image than its layers")
        layers = tuple(map(Layer, manifest.layers, config.diff_ids))
        position = {layer.descriptor.digest: number for number, layer in reversed([*enumerate(layers)])}

        def done(descriptor: Descriptor) -> None:
            number = position[descriptor.digest]
            on_layer(layers[number], layers[:number])

        run_all(self._layers([manifest], done), jobs=self.jobs)

    def blobs(self, manifests: Sequence[Manifest]) -> None:
        """Fetch the configs and layers of ``manifests``, ``jobs`` at a time."""
        configs = {manifest.config.digest: manifest.config for manifest in manifests}
        for config in configs.values():
            self._check_size(config)
        tasks = [self._task(config, lambda _: None) for config in configs.values()]
        run_all([*tasks, *self._layers(manifests)], jobs=self.jobs)

    def _layers(
        self, manifests: Sequence[Manifest], done: Callable[[Descriptor], None] = lambda _: None
    ) -> list[Task]:
        layers = {layer.digest: layer for manifest in manifests for layer in manifest.layers}
        return [self._task(layer, done) for layer in layers.values()]

    def _check_size(self, config: Descriptor) -> None:
        if config.size > MAX_DOCUMENT:
            raise TransportError(f"{self.sources[-1].name}: a config of {config.size} bytes")

    def _task(self, descriptor: Descriptor, done: Callable[[Descriptor], None]) -> Task:
        def fetch(stop: threading.Event) -> None:
            self.blob(descriptor, stop)
            done(descriptor)

        return fetch

    def blob(self, descriptor: Descriptor, stop: threading.Event | None = None) -> None:
        """Fetch one blob from the first source that has it right, unless the store has it.

        Raises:
            NotFoundError: no source has it.
            TransportError: it can't be had, or not as its digest says.
        """
        if self.store.blobs.has(descriptor.digest):
            self.progress.emit(Transfer("pull", descriptor.digest, descriptor.size, descriptor.size))
            return

        def fetch(source: BlobSource) -> None:
            for again in (True, False):
                received = 0

                def reported(chunks: Iterator[bytes]) -> Iterator[bytes]:
                    nonlocal received
                    for chunk in chunks:
                        received += len(chunk)
                        yield chunk
                        self.progress.emit(Transfer("pull", descriptor.digest, received, descriptor.size))

                try:
                    with closing(source.read_blob(descriptor, stop)) as chunks:
                        self.store.blobs.ingest(descriptor, reported(chunks))
                    return
                except TransportError:
                    # All bytes came and were wrong: something on the way garbles, and may not do so twice.
                    if received != descriptor.size or not again:
                        raise

        sources: tuple[BlobSource, ...] = self.sources
        if mediatype.is_foreign(descriptor.media_type):
            sources += tuple(ForeignUrl(self.client, url) for url in descriptor.urls)
        first_of(sources, fetch)


class BlobSource(Protocol):
    """Where a blob may come from."""

    def read_blob(
        self, descriptor: Descriptor, stop: threading.Event | None
    ) -> Generator[bytes, None, None]: ...


@dataclass(frozen=True, slots=True)
class ForeignUrl:
    """One of the ``urls`` of a layer that its maker did not want to lie in other registries. Gets no credentials."""

    client: Client
    url: str

    def read_blob(self, descriptor: Descriptor, stop: threading.Event | None) -> Generator[bytes, None, None]:
        """As `Repository.read_blob`."""

        def get(headers: Mapping[str, str]) -> Response:
            response = self.client.request("GET", self.url, headers=headers, stop=stop)
            if response.status not in (200, 206):
                response.close()
                raise TransportError(f"{redacted(self.url)}: answered {response.status}")
            return response

        return download(get, size=descriptor.size, immutable=True, patience=self.client.patience, stop=stop)


def select(
    descriptor: Descriptor, platform: Platform, read: Callable[[Descriptor], Manifest | Index], name: str
) -> tuple[Descriptor, Manifest]:
    """The image manifest for ``platform`` at or below ``descriptor``; its descriptor says which platform it is.

    Raises:
        NotFoundError: the index has no image for it.
        TransportError: what ``read`` raises, or the document is not a container image.
    """
    for _ in range(MAX_DEPTH):
        document = read(descriptor)
        if isinstance(document, Manifest):
            check_image(document, name)
            return descriptor, document
        try:
            chosen = choose(document, platform)
        except NotFoundError as error:
            raise NotFoundError(f"{name}: {error.message}", hint=error.hint) from None
        descriptor = replace(chosen.bare(), platform=chosen.platform)
    raise _too_deep(name)


def check_image(manifest: Manifest, name: str) -> None:
    """Raise TransportError unless config and layers are of types that a container image has."""
    wrong = [d.media_type for d in (manifest.config,) if not mediatype.is_config(d.media_type)]
    wrong += [d.media_type for d in manifest.layers if not mediatype.is_layer(d.media_type)]
    if wrong:
        raise TransportError(
            f"{name} is not a container image that can be used here: it holds {wrong[0]!r}",
            hint="it may be an artifact (a Helm chart, a signature), or of a format that is newer than this program",
        )


def first_of(sources: Sequence[S], ask: Callable[[S], T]) -> T:
    """What ``ask`` gives for the first source that can answer.

    Raises:
        NotFoundError, TransportError: what the last one said; its hint tells of the others.
    """
    failures: list[str] = []
    for source in sources:
        try:
            return ask(source)
        except (NotFoundError, TransportError) as error:
            if source is sources[-1]:
                if failures:
                    error.hint = "; ".join(
                        filter(None, [error.hint, *(f"before that, {text}" for text in failures)])
                    )
                raise
            failures.append(error.message)
    raise AssertionError("there is always one source")


def _too_deep(name: str) -> TransportError:
    return TransportError(f"{name}: more than {MAX_DEPTH} indexes within each other")
