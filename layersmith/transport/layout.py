"""OCI image layouts (image-layout.md): a directory, or a tar of one. In: files, or a store. Out: the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, TransportError, UsageError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import REF_NAME, Descriptor
from layersmith.oci.digest import encoded
from layersmith.oci.document import MAX_DOCUMENT, canonical, parse_object
from layersmith.oci.manifest import Index
from layersmith.oci.reference import Reference, parse_reference
from layersmith.store import Store
from layersmith.store.graph import children, closure, is_document
from layersmith.transport.files import Files, read_file
from layersmith.transport.sinks import Sink

CONTAINERD_NAME = "io.containerd.image.name"
"""The full name, as containerd, BuildKit and `docker load` know it."""

_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is now in the store, and the names (with tag) that it is to have."""

    descriptor: Descriptor
    names: tuple[str, ...] = ()


def is_layout(files: Files) -> bool:
    """Whether ``files`` are an OCI layout."""
    return files.size("oci-layout") is not None and files.size("index.json") is not None


def load_layout(store: Store, files: Files, *, only: str | None = None) -> tuple[Loaded, ...]:
    """Copy the images of a layout into ``store``, verified blob by blob.

    ``only``: the one with this digest, or this reference name (``org.opencontainers.image.ref.name``); a missing tag
    is ``latest``.

    Raises:
        TransportError: it is not a layout, or damaged.
        NotFoundError: it has no image ``only``.
    """
    version = parse_object(read_file(files, "oci-layout", limit=4096), "oci-layout")
    if not version.text("imageLayoutVersion").startswith("1."):
        raise TransportError(
            f"{files.name}: image layout version {version.text('imageLayoutVersion')!r} is unknown"
        )
    index = Index.from_json(read_file(files, "index.json", limit=MAX_DOCUMENT))
    entries = [entry for entry in index.manifests if only is None or _is_called(entry, only)]
    if not entries:
        names = sorted({entry.annotation(REF_NAME) or "" for entry in index.manifests} - {""})
        wanted = "no images" if only is None else f"no image {only!r}"
        raise NotFoundError(f"{files.name} has {wanted}", hint=f"it has {', '.join(names) or 'no names'}")
    names_of: dict[str, list[str]] = {}
    descriptors: dict[str, Descriptor] = {}
    for entry in entries:
        _copy(store, files, entry)
        descriptors[entry.digest] = entry.bare()
        names_of.setdefault(entry.digest, []).extend(_names(entry, files.name))
    return tuple(
        Loaded(descriptor, tuple(dict.fromkeys(names_of[digest])))
        for digest, descriptor in descriptors.items()
    )


def _is_called(entry: Descriptor, text: str) -> bool:
    name = entry.annotation(REF_NAME)
    return text in (entry.digest, name) or f"{text}:latest" == name


def blob_path(digest: str) -> str:
    """Where a layout has a blob."""
    return f"blobs/sha256/{encoded(digest)}"


def _copy(store: Store, files: Files, descriptor: Descriptor, depth: int = 0) -> None:
    """Copy a blob, after everything that it refers to: a manifest in the store is a complete one."""
    if depth > _DEPTH:
        raise TransportError(f"{files.name}: indexes are nested more than {_DEPTH} deep")
    if not is_document(descriptor):
        if descriptor.media_type in ("", "application/octet-stream"):
            raise TransportError(f"{files.name}: {descriptor.digest} has no media type")
        store.blobs.ingest(descriptor, files.chunks(blob_path(descriptor.digest)))
        return
    if descriptor.size > MAX_DOCUMENT:
        raise TransportError(f"{files.name}: manifest {descriptor.digest} has {descriptor.size} bytes")
    if store.blobs.has(descriptor.digest):
        data = store.blobs.read(descriptor)
    else:
        data = read_file(files, blob_path(descriptor.digest), limit=MAX_DOCUMENT)
        check(descriptor, data, files.name)
    whole = mediatype.is_manifest(descriptor.media_type)
    copied = 0
    for child in children(data, descriptor):
        there = files.size(blob_path(child.digest)) is not None or store.blobs.has(child.digest)
        if there:
            _copy(store, files, child, depth + 1)
            copied += 1
        elif whole and not (mediatype.is_foreign(child.media_type) and child.urls):
            raise TransportError(
                f"{files.name}: blob {child.digest} is missing", hint="the archive is incomplete"
            )
    if not whole and not copied:
        raise TransportError(f"{files.name}: no image of the index {descriptor.digest} is there")
    store.blobs.ingest(descriptor, [data])


def check(descriptor: Descriptor, data: bytes, where: str) -> None:
    """Refuse ``data`` that is not what ``descriptor`` says. Raises TransportError."""
    found = Descriptor.of(descriptor.media_type, data)
    if (found.digest, found.size) != (descriptor.digest, descriptor.size):
        raise TransportError(f"{where}: blob {descriptor.digest} is damaged: it is {found.digest}")


def _names(entry: Descriptor, source: str) -> list[str]:
    """What an entry of a layout's index is called. There are two customs: ``ref.name`` is a name, or only a tag."""
    full = entry.annotation(CONTAINERD_NAME)
    text = entry.annotation(REF_NAME)
    try:
        if full:
            return [_tagged(parse_reference(full))]
        if text and (":" in text or "/" in text or text != "latest"):
            return [_tagged(parse_reference(text))]
        if text:
            stem = PurePath(source).name.lower().partition(".")[0]
            return [_tagged(parse_reference(stem).with_tag(text))]
    except UsageError:
        pass  # An annotation may be anything. The image is still there under its digest.
    return []


def _tagged(reference: Reference) -> str:
    return reference.with_tag(reference.tag or "latest").familiar()


def save_layout(
    store: Store,
    descriptor: Descriptor,
    sink: Sink,
    names: Sequence[str] = (),
    *,
    beside: Sequence[Descriptor] = (),
) -> None:
    """Write the image at ``descriptor`` (a manifest or an index) as a layout, under ``names``.

    ``beside``: entries of the index that is there, which stay, except those that have one of the names.

    Raises:
        NotFoundError, DigestMismatchError: a blob is missing or damaged.
    """
    sink.data("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
    blobs = {part.digest: part for part in closure(store.blobs, descriptor)}
    for digest in sorted(blobs):
        sink.blob(blob_path(digest), store, blobs[digest])
    entries = named(descriptor, names)
    taken = {entry.annotation(REF_NAME) for entry in entries}
    kept = [entry for entry in beside if entry.annotation(REF_NAME) not in taken]
    sink.data("index.json", Index((*kept, *entries)).to_json())


def entries_in(directory: Path) -> tuple[Descriptor, ...]:
    """The entries of the layout in ``directory``, none if it is not one. Raises TransportError if it is damaged."""
    try:
        return Index.from_json((directory / "index.json").read_bytes()).manifests
    except FileNotFoundError:
        return ()


def named(descriptor: Descriptor, names: Iterable[str]) -> list[Descriptor]:
    """An index's entries for an image with these names."""
    found = []
    for name in names:
        reference = parse_reference(name)
        values = {REF_NAME: reference.familiar(), CONTAINERD_NAME: str(reference)}
        found.append(descriptor.annotated(**values))
    return found or [descriptor]
