"""Indexes (manifest lists) put together by hand. In: an `Index`, images of a store. Out: another `Index`, and its descriptor.

Values: every change makes a new index, and an index that nothing names any more goes with the next prune.
"""

from __future__ import annotations

from collections.abc import Iterable

from layersmith.dataclass import replace
from layersmith.errors import NotFoundError, UsageError
from layersmith.image import Image, choose
from layersmith.oci.descriptor import ATTESTATION, Descriptor
from layersmith.oci.document import Annotations
from layersmith.oci.manifest import Index, parse_manifest
from layersmith.oci.platform import Platform, native
from layersmith.store import Store


def read_index(store: Store, name: str) -> Index:
    """The index that a person calls ``name``.

    Raises:
        NotFoundError: the store has no image of that name.
        UsageError: it is the image of a single platform.
    """
    return as_index(store, store.refs.resolve(name), name)


def as_index(store: Store, descriptor: Descriptor, name: str) -> Index:
    """As `read_index`, of a descriptor."""
    document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
    if not isinstance(document, Index):
        raise UsageError(
            f"{name} is an image, not an index of images",
            hint="`layersmith manifest create LIST IMAGE...` makes an index",
        )
    return document


def write_index(store: Store, index: Index) -> Descriptor:
    """Put ``index``; its descriptor."""
    data = index.to_json()
    store.blobs.put(data)
    return Descriptor.of(index.media_type, data)


def entries(store: Store, descriptor: Descriptor, *, every: bool = False) -> tuple[Descriptor, ...]:
    """What an index has to say of the image at ``descriptor``: its manifest, with the platform from its config.

    Of an index: what it says of this machine's image, or with ``every`` all that it lists.

    Raises:
        NotFoundError: it has no image for this machine, or its blobs are missing.
        TransportError: it is no container image.
    """
    document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
    if isinstance(document, Index):
        return document.manifests if every else (choose(document, native()),)
    platform = Image.read(store, descriptor).config.platform
    return (replace(descriptor.bare(), platform=platform.normalized()),)


def with_entry(index: Index, entry: Descriptor) -> Index:
    """``index`` with ``entry`` last, in the place of the same image, or of another one for the same platform."""
    kept = tuple(
        other
        for other in index.manifests
        if other.digest != entry.digest
        and (other.platform != entry.platform or entry.platform is None or _says_nothing_of_platforms(other))
    )
    return replace(index, manifests=(*kept, entry))


def without_entry(index: Index, digest: str) -> Index:
    """``index`` without the image ``digest``. Raises NotFoundError if it is not there."""
    find_entry(index, digest)
    return replace(index, manifests=tuple(entry for entry in index.manifests if entry.digest != digest))


def find_entry(index: Index, digest: str) -> Descriptor:
    """What ``index`` says of the image ``digest``. Raises NotFoundError."""
    for entry in index.manifests:
        if entry.digest == digest:
            return entry
    there = ", ".join(f"{entry.digest[:19]} ({entry.platform or 'unknown'})" for entry in index.manifests)
    raise NotFoundError(f"the index does not list {digest}", hint=f"it lists {there or 'nothing'}")


def with_changed_entry(index: Index, changed: Descriptor) -> Index:
    """``index`` with what it says of ``changed``'s image replaced, in its place."""
    listed = tuple(changed if entry.digest == changed.digest else entry for entry in index.manifests)
    return replace(index, manifests=listed)


def described(
    entry: Descriptor,
    *,
    os: str | None = None,
    architecture: str | None = None,
    variant: str | None = None,
    os_version: str | None = None,
    os_features: Iterable[str] = (),
    annotations: Annotations = (),
) -> Descriptor:
    """``entry`` with what is given of its platform and annotations changed."""
    before = entry.platform or Platform("linux", native().architecture)
    platform = Platform(
        before.os if os is None else os,
        before.architecture if architecture is None else architecture,
        before.variant if variant is None else variant,
        before.os_version if os_version is None else os_version,
        tuple(os_features) or before.os_features,
    )
    asked = any(value is not None for value in (os, architecture, variant, os_version)) or os_features
    return replace(entry, platform=platform if asked else entry.platform).annotated(**dict(annotations))


def annotated(index: Index, annotations: Annotations) -> Index:
    """``index`` with these annotations of its own."""
    return replace(index, annotations=tuple(sorted({**dict(index.annotations), **dict(annotations)}.items())))


def _says_nothing_of_platforms(entry: Descriptor) -> bool:
    """Whether an entry is a statement about an image (BuildKit's attestations), not one."""
    return entry.annotation(ATTESTATION) is not None
