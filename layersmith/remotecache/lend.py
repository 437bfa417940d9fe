"""``--cache-to``: what a build used and made, to where others can have it. In: records, cache mounts. Out: an artifact.

Blobs that the other side has are not sent; the document comes last, so a reader sees the old cache or the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.errors import LayersmithError, TransportError
from layersmith.image import INLINE_CACHE, Image
from layersmith.oci.descriptor import REF_NAME, Descriptor
from layersmith.oci.digest import Digest
from layersmith.oci.document import MAX_DOCUMENT, canonical
from layersmith.remotecache.document import CacheDocument, SharedMount, exportable
from layersmith.remotecache.options import CacheOption
from layersmith.store import Store
from layersmith.store.graph import children, closure, is_document

if TYPE_CHECKING:
    from layersmith.progress import Progress


def lend(
    store: Store,
    option: CacheOption,
    images: Iterable[Image],
    progress: Progress,
    mounts: Iterable[SharedMount] = (),
    absent: frozenset[str] = frozenset(),
) -> Descriptor:
    """Export the records that this build used or made to where ``option`` says, with all layers, or ``images``' alone.

    ``absent`` are layers that can't be had (see `borrow.Borrowed`).

    Raises:
        TransportError: it can't be written there.
    """
    mounts = tuple(mounts)
    records = exportable(store.cache.used.values())
    digests = {record.layer.descriptor.digest for record in records if record.layer is not None}
    if option.max:
        carried = {d for d in digests - absent if store.blobs.obtainable(d)}
    else:
        carried = _layers_of(images)
    carried |= {mount.layer.descriptor.digest for mount in mounts}
    descriptor = CacheDocument(records, mounts, frozenset(digests - carried)).write(store)
    send(store, option, descriptor, progress)
    return descriptor


def _layers_of(images: Iterable[Image]) -> set[Digest]:
    return {layer.descriptor.digest for image in images for layer in image.layers}


def embedded(store: Store, image: Image) -> Image:
    """``image`` with this build's records in its config: a cache that is wherever the image is, with its layers."""
    value = CacheDocument(exportable(store.cache.used.values())).to_json(image.layers)
    extra = {**dict(image.config.extra), INLINE_CACHE: canonical(value).decode()}
    return replace(image, config=replace(image.config, extra=tuple(sorted(extra.items()))))


def send(store: Store, option: CacheOption, descriptor: Descriptor, progress: Progress) -> None:
    """Write a document that is in ``store``, with its blobs, to where ``option`` says. Raises TransportError."""
    given = option.attributes
    if option.type == "registry":
        from layersmith.transport.registry import Registry

        with Registry(progress=progress) as registry:
            registry.push(store, descriptor.bare(), registry.config.reference(given["ref"]))
    elif option.type == "tar":
        from layersmith.transport.layout import save_layout
        from layersmith.transport.sinks import TarSink, output_file

        with output_file(Path(given["dest"])) as file:
            sink = TarSink(file)
            save_layout(store, _named(descriptor, option), sink)
            sink.close()
    elif option.type == "local":
        try:
            _save_directory(store, _named(descriptor, option), Path(given["dest"]))
        except OSError as error:
            raise TransportError(f"can't write the cache {given['dest']}: {error.strerror}") from error
    else:
        from layersmith.transport.layout import save_layout
        from layersmith.transport.objects import Objects, location

        target = Objects(*location(option.type, given))
        save_layout(store, _named(descriptor, option), target, beside=target.entries())


def _named(descriptor: Descriptor, option: CacheOption) -> Descriptor:
    return descriptor.annotated(**{REF_NAME: option.tag})


def _save_directory(store: Store, descriptor: Descriptor, dest: Path) -> None:
    """Write a layout, and delete what only the cache of that name had needed before: it would grow forever."""
    from layersmith.transport.layout import entries_in, save_layout
    from layersmith.transport.sinks import DirectorySink

    before = entries_in(dest)
    old = _digests_of(dest, (e for e in before if e.annotation(REF_NAME) == descriptor.annotation(REF_NAME)))
    save_layout(store, descriptor, DirectorySink(dest), beside=before)
    kept = {part.digest for part in closure(store.blobs, descriptor)}
    kept |= _digests_of(dest, entries_in(dest))
    for digest in old - kept:
        (dest / "blobs" / "sha256" / digest.partition(":")[2]).unlink(missing_ok=True)


def _digests_of(dest: Path, entries: Iterable[Descriptor]) -> set[Digest]:
    """What ``entries`` of the layout in ``dest`` need, as far as that can be read."""
    from layersmith.transport.files import DirectoryFiles, read_file
    from layersmith.transport.layout import blob_path

    found: set[Digest] = set()
    pending = list(entries)
    if not pending:
        return found
    with DirectoryFiles(dest) as files:
        while pending:
            entry = pending.pop()
            if entry.digest in found:
                continue
            found.add(entry.digest)
            if not is_document(entry):
                continue
            with contextlib.suppress(LayersmithError):
                pending += children(read_file(files, blob_path(entry.digest), limit=MAX_DOCUMENT), entry)
    return found
