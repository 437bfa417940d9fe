"""`Registry`: pull, push and ask. In: references, and a store. Out: descriptors; see the package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType

from layersmith.dataclass import replace
from layersmith.errors import LayersmithError, NotFoundError, UsageError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import Digest
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.oci.platform import Platform, native
from layersmith.oci.reference import Reference, parse_reference
from layersmith.progress import NullProgress, Progress
from layersmith.store.store import Store
from layersmith.transport.auth import Credentials, Keychain
from layersmith.transport.http import Client
from layersmith.transport.registry.host import Host
from layersmith.transport.registry.pull import OnLayer, Puller, first_of, select
from layersmith.transport.registry.push import Pusher
from layersmith.transport.registry.repository import Repository
from layersmith.transport.registry.tokens import Authorizer
from layersmith.transport.registry_config import Endpoint, RegistryConfig

MAX_MOUNTS = 2
"""Repositories to try to mount a blob from: each that fails costs a round trip."""

JOBS = 6
"""Transfers at once: enough to fill a link with the layers of most images, few enough for a registry's limits."""


class Registry:
    """All registries, seen with one configuration. Usable from several threads; `close` it, or use it as a context."""

    def __init__(
        self,
        config: RegistryConfig | None = None,
        keychain: Keychain | None = None,
        *,
        client: Client | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config or RegistryConfig.load()
        self._keychain = keychain or Keychain()
        self._progress = progress or NullProgress()
        self._client = client or Client(self.config.trust, progress=self._progress)
        self._hosts: dict[tuple[str, str], Host] = {}
        self._lock = threading.Lock()

    def resolve(self, reference: Reference, platform: Platform | None = None) -> Descriptor:
        """What ``reference`` is at the registry now: the index or manifest, or with ``platform`` the image for it.

        Raises:
            NotFoundError: there is no such image, or none for ``platform``.
            TransportError: the registry can't be asked, or its answer is wrong.
        """
        sources = self._sources(reference)
        which = reference.digest or reference.tag or ""
        if platform is None:
            return first_of(
                sources, lambda source: source.head_manifest(which) or source.get_manifest(which)[0]
            )

        def read(descriptor: Descriptor) -> Manifest | Index:
            data = first_of(sources, lambda source: source.get_manifest(descriptor.digest)[1])
            return parse_manifest(data, descriptor.media_type)

        top = first_of(sources, lambda source: source.get_manifest(which)[0])
        return select(top, platform, read, reference.familiar())[0]

    def pull(
        self,
        store: Store,
        reference: Reference,
        *,
        platform: Platform | None = None,
        all_platforms: bool = False,
        lazy: bool = False,
        progress: Progress | None = None,
        jobs: int = JOBS,
        on_layer: OnLayer | None = None,
    ) -> Descriptor:
        """Fetch an image into the store: manifest, config and (unless ``lazy``) layers, those it lacks in parallel.

        ``platform`` (default: this machine's) chooses from an index; with ``all_platforms`` all of the index is fetched.
        ``on_layer`` is told of each layer as soon as the store has it, from several threads, so that it can be
        unpacked while others arrive (not with ``all_platforms``); what it raises ends the pull. The image gets no name
        in the store.

        Returns:
            The manifest's descriptor with its platform; the index's with ``all_platforms``.

        Raises:
            NotFoundError: there is no such image, or none for ``platform``.
            TransportError: it can't be had whole and right. What is right of it stays in the store.
        """
        puller = self._puller(store, reference, progress, jobs)
        top = puller.top(reference)
        if all_platforms:
            puller.blobs(puller.everything(top))
            return top
        descriptor, manifest = select(top, platform or native(), puller.manifest, reference.familiar())
        if lazy:
            puller.blobs([replace(manifest, layers=())])
        elif on_layer:
            puller.image(manifest, on_layer)
        else:
            puller.blobs([manifest])
        return descriptor

    def fetch_manifest(self, store: Store, reference: Reference) -> Descriptor:
        """Fetch only what ``reference`` itself is, an index or a manifest, into the store. Raises as `pull`."""
        return self._puller(store, reference, None, 1).top(reference)

    def fetch_blob(
        self, store: Store, reference: Reference, descriptor: Descriptor, *, progress: Progress | None = None
    ) -> None:
        """Fetch one blob of an image that was pulled lazily, unless the store has it. Raises as `pull`."""
        self._puller(store, reference, progress, 1).blob(descriptor)

    def documents(self, store: Store, reference: Reference, *, limit: int) -> tuple[Manifest, ...]:
        """The manifest of ``reference``, or those of its index, ``limit`` at most, with their configs in the store.

        Any artifact will do; no layer is fetched. Raises as `pull`.
        """
        puller = self._puller(store, reference, None, JOBS)
        top = puller.manifest(puller.top(reference))
        if isinstance(top, Index):
            inner = [puller.manifest(entry) for entry in top.manifests[:limit]]
            manifests = [document for document in inner if isinstance(document, Manifest)]
        else:
            manifests = [top]
        puller.blobs([replace(manifest, layers=()) for manifest in manifests])
        return tuple(manifests)

    def push(
        self,
        store: Store,
        descriptor: Descriptor,
        reference: Reference,
        *,
        progress: Progress | None = None,
        jobs: int = JOBS,
    ) -> None:
        """Upload an image, or an index with all its images, and give it the tag of ``reference`` (without one: none).

        Blobs that the registry has are not sent; those that another of its repositories has, by what the store's
        names say, are mounted from there.

        Raises:
            NotFoundError: the store does not hold all of it.
            TransportError: the registry does not take it.
        """
        if reference.digest not in (None, descriptor.digest):
            raise UsageError(f"{reference} names another digest than the image has, {descriptor.digest}")
        target = self._sources(reference, push=True)[-1]
        siblings = _siblings(store, reference)
        pusher = Pusher(store, target, siblings, progress or self._progress, jobs)
        pusher.push(descriptor, reference.tag or descriptor.digest)

    def exists(self, reference: Reference) -> bool:
        """Whether the registry has ``reference``. Raises TransportError if it can't be asked."""
        try:
            self.resolve(reference)
        except NotFoundError:
            return False
        return True

    def tags(self, reference: Reference) -> Iterator[str]:
        """The tags of the repository. Raises NotFoundError and TransportError on the way."""
        return self._sources(reference, push=True)[-1].tags()

    def check_login(self, domain: str, credentials: Credentials) -> None:
        """Raise TransportError unless the registry ``domain`` accepts ``credentials``."""
        endpoint = self.config.endpoints(Reference(domain, "login"), push=True)[-1]
        Host(self._client, endpoint.bases, Authorizer(self._client, lambda: credentials)).check_login()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _puller(self, store: Store, reference: Reference, progress: Progress | None, jobs: int) -> Puller:
        return Puller(store, self._client, self._sources(reference), progress or self._progress, jobs)

    def _sources(self, reference: Reference, *, push: bool = False) -> tuple[Repository, ...]:
        endpoints = self.config.endpoints(reference, push=push)
        return tuple(
            Repository(self._host(endpoint), endpoint.path, f"{endpoint.domain}/{endpoint.path}")
            for endpoint in endpoints
        )

    def _host(self, endpoint: Endpoint) -> Host:
        """One for each repository: credentials may be for a part of a registry only."""
        with self._lock:
            host = self._hosts.get((endpoint.host, endpoint.path))
            if host is None:
                ask = partial(self._keychain.get, endpoint.domain, endpoint.path)
                host = Host(self._client, endpoint.bases, Authorizer(self._client, ask))
                self._hosts[endpoint.host, endpoint.path] = host
            return host


def _siblings(store: Store, reference: Reference) -> dict[str, tuple[str, ...]]:
    """Layer digest -> repositories in the registry of ``reference`` from which, by the store's names, it came.

    A name in the store may have been given without any pull or push; then mounting fails and the blob is uploaded.
    """
    found: dict[str, list[str]] = {}
    for name, descriptor in store.refs.list():
        other = parse_reference(name) if name else None
        if other is None or other.domain != reference.domain or other.path == reference.path:
            continue
        for digest in _blobs_of(store, descriptor):
            paths = found.setdefault(digest, [])
            if other.path not in paths and len(paths) < MAX_MOUNTS:
                paths.append(other.path)
    return {digest: tuple(paths) for digest, paths in found.items()}


def _blobs_of(store: Store, descriptor: Descriptor) -> Iterator[Digest]:
    try:
        document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
    except LayersmithError:
        return  # a damaged image is no source of anything
    if isinstance(document, Manifest):
        yield from (layer.digest for layer in document.layers)
    else:
        for entry in document.manifests:
            yield from _blobs_of(store, entry)
