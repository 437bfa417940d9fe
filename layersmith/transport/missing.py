"""Blobs that were promised, brought in side by side. In: descriptors. Out: the blobs in the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from layersmith.oci.descriptor import Descriptor
from layersmith.store import Store
from layersmith.transport.parallel import Task, run_all

JOBS = 6


def fetch_missing(store: Store, descriptors: Iterable[Descriptor]) -> None:
    """Fetch those of ``descriptors`` that are `Blobs.elsewhere` and not here. Raises what fetching raises."""
    wanted = {d.digest: d for d in descriptors if d.digest in store.blobs.elsewhere}
    missing = [descriptor for digest, descriptor in wanted.items() if not store.blobs.has(digest)]

    def task(descriptor: Descriptor) -> Task:
        def fetch(stop: threading.Event) -> None:
            if not stop.is_set():
                store.blobs.fetch(descriptor)

        return fetch

    run_all([task(descriptor) for descriptor in missing], jobs=JOBS)
