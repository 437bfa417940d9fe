"""Blobs that can be had but are not here. In: promises to fetch. Out: the blobs, fetched when somebody opens them.

A cache source or a lazily pulled base image knows a hundred layers; a build that finds all its steps in the cache
opens only those of its result. So `Blobs.open` asks here before it gives up, and nobody above it has to know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from layersmith.dataclass import dataclass, field
from layersmith.oci.descriptor import Descriptor

Fetch = Callable[[Descriptor], None]
"""Brings a blob into the store, verified. Raises TransportError or NotFoundError."""


@dataclass(slots=True)
class _Promise:
    fetch: Fetch
    once: threading.Lock = field(default_factory=threading.Lock)


class Elsewhere:
    """What this process could fetch; safe to use from several threads."""

    def __init__(self) -> None:
        self._promises: dict[str, _Promise] = {}

    def promise(self, digests: Iterable[str], fetch: Fetch) -> None:
        """Say that ``fetch`` brings ``digests``; the first who promises a digest is the one who is asked."""
        for digest in digests:
            self._promises.setdefault(digest, _Promise(fetch))

    def withdraw(self, fetch: Fetch) -> None:
        """Forget what was promised with ``fetch``."""
        self._promises = {digest: p for digest, p in self._promises.items() if p.fetch is not fetch}

    def __contains__(self, digest: str) -> bool:
        return digest in self._promises

    def bring(self, descriptor: Descriptor) -> bool:
        """Fetch a blob, by one thread at a time; False if nobody has promised it. Raises what `Fetch` raises."""
        promise = self._promises.get(descriptor.digest)
        if promise is None:
            return False
        with promise.once:
            promise.fetch(descriptor)
        return True
