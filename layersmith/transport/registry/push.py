"""PUSH: from the store to a registry. In: an image's descriptor. Out: all it consists of at the registry, under a name.

Blobs first, in parallel, each only if the registry lacks it; then manifests, from the inside out; the name last. So
whoever pulls meanwhile sees either the old image or the whole new one.
"""

from __future__ import annotations

import threading

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, TransportError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.progress import Progress, Transfer
from layersmith.store.store import Store
from layersmith.transport.parallel import Task, run_all
from layersmith.transport.registry.repository import Repository
from layersmith.transport.registry.upload import upload


@dataclass(frozen=True, slots=True)
class Pusher:
    """What all of one push shares. ``siblings``: digest -> other repositories of that registry that should have it."""

    store: Store
    target: Repository
    siblings: dict[str, tuple[str, ...]]
    progress: Progress
    jobs: int

    def push(self, descriptor: Descriptor, which: str) -> None:
        """Push the image or index under ``which``, a tag or its own digest.

        Raises:
            NotFoundError: the store does not hold all of it.
            TransportError: the registry does not take it.
        """
        documents = self._documents(descriptor)
        blobs: dict[str, Descriptor] = {}
        for _, document, _ in documents:
            if isinstance(document, Manifest):
                blobs |= {blob.digest: blob for blob in (document.config, *document.layers)}
        run_all([self._task(blob) for blob in blobs.values()], jobs=self.jobs)
        for inner, _, data in documents[:-1]:
            self.target.put_manifest(inner.digest, inner.media_type, data)
        self.target.put_manifest(which, descriptor.media_type, documents[-1][2])

    def _documents(self, descriptor: Descriptor) -> list[tuple[Descriptor, Manifest | Index, bytes]]:
        """``descriptor``'s manifest or index after all those that it refers to."""
        data = self.store.blobs.read(descriptor)
        document = parse_manifest(data, descriptor.media_type)
        found = []
        if isinstance(document, Index):
            for entry in document.manifests:
                if not self.store.blobs.has(entry.digest):
                    raise NotFoundError(
                        f"the index {descriptor.digest} also lists {entry.platform or entry.digest}, which is not in the store",
                        hint="pull it with --all-platforms, or push the image of one platform",
                    )
                found += self._documents(entry)
        return [*found, (descriptor, document, data)]

    def _task(self, descriptor: Descriptor) -> Task:
        def send(stop: threading.Event) -> None:
            self._send(descriptor, stop)

        return send

    def _send(self, descriptor: Descriptor, stop: threading.Event) -> None:
        told = -1

        def sent(done: int) -> None:
            nonlocal told
            if done == told:
                return
            told = done
            self.progress.emit(Transfer("push", descriptor.digest, done, descriptor.size))

        if self.target.has_blob(descriptor.digest):
            sent(descriptor.size)
            return
        path = None
        if not self.store.blobs.has(descriptor.digest) and descriptor.digest in self.store.blobs.elsewhere:
            self.store.blobs.fetch(descriptor)
        if self.store.blobs.has(descriptor.digest):
            path = self.store.blobs.path(descriptor.digest)
            if path.stat().st_size != descriptor.size:
                raise TransportError(
                    f"the blob {descriptor.digest} is damaged: its size is not {descriptor.size}"
                )
        elif mediatype.is_foreign(descriptor.media_type) and descriptor.urls:
            return
        siblings = self.siblings.get(descriptor.digest, ())
        upload(self.target, descriptor, path, mount_from=siblings, sent=sent, stop=stop)
