"""``--cache-from``: caches to records and promised blobs. In: `CacheOption`s. Out: what a build may use, unfetched.

Nothing but documents is fetched here; a layer comes when a step must see its files, or as part of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import CacheSourceError, LayersmithError, NotFoundError
from layersmith.image import INLINE_CACHE
from layersmith.layer.blob import open_tar
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.document import parse_object
from layersmith.oci.manifest import Manifest
from layersmith.progress import Notice, Progress
from layersmith.remotecache.document import CONFIG, CacheDocument, parse_document, read_document
from layersmith.remotecache.options import CacheOption
from layersmith.remotecache.sources import CacheSource, open_source
from layersmith.store import Store
from layersmith.store.elsewhere import Fetch

if TYPE_CHECKING:
    from layersmith.remotecache.document import SharedMount


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What came of ``--cache-from``: the cache mounts that were found, and how to do without what can't be had.

    ``absent`` are the digests of layers that the caches know and don't carry, ``lent`` of those that their records name,
    ``verified`` of those whose DiffID was found right.
    """

    store: Store
    mounts: tuple[SharedMount, ...]
    absent: frozenset[str]
    verified: set[str]
    lent: set[str]

    def verify(self, layers: Iterable[Layer]) -> None:
        """Make sure that those of ``layers`` that a cache spoke of unpack to their DiffIDs, wherever their blobs are from.

        Raises CacheSourceError.
        """
        for layer in layers:
            if layer.descriptor.digest in self.lent - self.verified:
                _verify(self.store, layer)
                self.verified.add(layer.descriptor.digest)

    def give_back(self, digest: str = "") -> None:
        """Use the layer ``digest`` no more, which is needed, and gone; without one, nothing of it all.

        If it is one of the `absent`, all of these are given up: the step that made it needs those below it next.
        """
        if not digest:
            self.store.cache.withdraw()
        else:
            self.store.cache.withdraw(self.absent if digest in self.absent else {digest})


@contextmanager
def borrowed(
    store: Store, options: Iterable[CacheOption], progress: Progress, *, strict: bool = False
) -> Iterator[Borrowed]:
    """Have the caches of ``options`` at hand for a block. One that can't be read is warned of, or with ``strict`` raises."""
    sources: list[CacheSource] = []
    mounts: list[SharedMount] = []
    absent: set[str] = set()
    verified: set[str] = set()
    lent: set[str] = set()
    try:
        for option in options:
            try:
                source = open_source(store, option, progress)
                sources.append(source)
                for document in documents(store, source):
                    fetch = _fetching(store, source, document, verified)
                    digests = [layer.descriptor.digest for layer in document.layers]
                    store.blobs.elsewhere.promise((d for d in digests if d not in document.absent), fetch)
                    absent |= document.absent
                    lent.update(digests)
                    store.cache.lend(document.records)
                    mounts += document.mounts
            except LayersmithError as error:
                if strict:
                    raise
                progress.emit(Notice("warning", f"the cache is not used: {error.message}"))
        absent = {digest for digest in absent if digest not in store.blobs.elsewhere}
        store.blobs.elsewhere.promise(absent, _refuse)
        yield Borrowed(store, tuple(mounts), frozenset(absent), verified, lent)
    finally:
        store.cache.withdraw()
        for source in sources:
            source.close()


@contextmanager
def known(
    store: Store, options: Iterable[CacheOption], progress: Progress, *, scratch: Store
) -> Iterator[None]:
    """Have the records alone in ``store`` for a block, for who only asks what would hit. Documents go into ``scratch``."""
    try:
        for option in options:
            try:
                with closing(open_source(scratch, option, progress)) as source:
                    for document in documents(scratch, source):
                        store.cache.lend(document.records)
            except LayersmithError as error:
                progress.emit(Notice("warning", f"the cache is not used: {error.message}"))
        yield
    finally:
        store.cache.withdraw()


def documents(store: Store, source: CacheSource) -> Iterator[CacheDocument]:
    """The caches in ``source``: its own document, or what its images have inline. Raises TransportError."""
    found = 0
    for manifest in source.manifests(store):
        document = _document(store, manifest)
        if document is not None:
            found += 1
            yield document
    if not found:
        raise NotFoundError(
            f"{source.name} is no cache of layersmith's, and has none inline",
            hint="write one with --cache-to, or build the image with --cache-to type=inline",
        )


def _document(store: Store, manifest: Manifest) -> CacheDocument | None:
    if manifest.config.media_type == CONFIG:
        return parse_document(store.blobs.read(manifest.config), manifest.layers)
    if not mediatype.is_config(manifest.config.media_type):
        return None
    config = ImageConfig.from_json(store.blobs.read(manifest.config))
    inline = dict(config.extra).get(INLINE_CACHE)
    if inline is None or len(config.diff_ids) != len(manifest.layers):
        return None
    layers = tuple(map(Layer, manifest.layers, config.diff_ids))
    return read_document(parse_object(inline.encode(), "inline cache"), layers)


def _fetching(store: Store, source: CacheSource, document: CacheDocument, verified: set[str]) -> Fetch:
    """Fetches a layer and makes sure that it is what its record says: nobody else may look before it is in an image."""
    layers = {layer.descriptor.digest: layer for layer in document.layers}

    def fetch(descriptor: Descriptor) -> None:
        try:
            source.fetch(store, descriptor)
        except LayersmithError as error:
            raise CacheSourceError(
                f"the cache {source.name}: {error.message}", descriptor.digest, hint=error.hint
            ) from error
        _verify(store, layers[descriptor.digest])
        verified.add(descriptor.digest)

    return fetch


def _verify(store: Store, layer: Layer) -> None:
    try:
        with open_tar(store, layer) as tar:
            for _ in tar:
                pass
    except LayersmithError as error:
        # Not the transfer's fault: whoever wrote this cache made it so, and nothing of it is to be believed.
        raise CacheSourceError(f"the cache is wrong: {error.message}", "", hint=error.hint) from error


def _refuse(descriptor: Descriptor) -> None:
    raise CacheSourceError(
        f"the caches know the layer {descriptor.digest}, but don't carry it",
        descriptor.digest,
        hint="write the cache with mode=max",
    )
