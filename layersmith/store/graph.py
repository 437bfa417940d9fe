"""What a manifest, index or config refers to. In: descriptors. Out: every descriptor reachable from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from layersmith.dataclass import dataclass, field
from layersmith.errors import LayersmithError, NotFoundError, TransportError
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import DiffID
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.oci.manifest import Index, parse_manifest
from layersmith.store.blobs import Blobs


def children(data: bytes, descriptor: Descriptor) -> tuple[Descriptor, ...]:
    """What the blob ``data`` refers to directly, config before layers; nothing for what is no manifest or index.

    Raises:
        TransportError: it is said to be a manifest or index, but is malformed.
    """
    if not mediatype.is_manifest(descriptor.media_type) and not mediatype.is_index(descriptor.media_type):
        return ()
    document = parse_manifest(data, descriptor.media_type)
    if isinstance(document, Index):
        return document.manifests
    return (document.config, *document.layers)


def is_document(descriptor: Descriptor) -> bool:
    """Whether a blob has to be read to know what else its image needs."""
    return mediatype.is_manifest(descriptor.media_type) or mediatype.is_index(descriptor.media_type)


def closure(blobs: Blobs, descriptor: Descriptor) -> Iterator[Descriptor]:
    """``descriptor`` and all below it that an export needs, each once, what is referred to first.

    Images of an index that are not in the store (another platform that was never fetched) are left out, and so are
    foreign layers that are not. Everything else must be there.

    Raises:
        NotFoundError, DigestMismatchError, TransportError: a blob is missing, damaged or malformed.
    """
    seen: set[str] = set()

    def visit(current: Descriptor, depth: int) -> Iterator[Descriptor]:
        if current.digest in seen:
            return
        seen.add(current.digest)
        if is_document(current):
            if depth > 8:
                raise TransportError(f"index {descriptor.digest} is nested more than 8 deep")
            sparse = mediatype.is_index(current.media_type)
            for child in children(blobs.read(current), current):
                if (sparse or mediatype.is_foreign(child.media_type)) and not blobs.has(child.digest):
                    continue
                yield from visit(child, depth + 1)
        elif not blobs.obtainable(current.digest):
            raise NotFoundError(
                f"blob {current.digest}, which image {descriptor.digest} needs, is not in the store",
                hint="pull or build the image again",
            )
        yield current

    yield from visit(descriptor, 0)


@dataclass(slots=True)
class Live:
    """What must stay: blob digests, and the DiffIDs whose snapshots and indexes may be used."""

    blobs: set[str] = field(default_factory=set)
    diff_ids: set[str] = field(default_factory=set)


def mark(blobs: Blobs, roots: Iterable[str], live: Live | None = None) -> Live:
    """What is reachable from the blobs ``roots``, as far as it is there. Nothing is verified and nothing pinned.

    A root may be anything, also a DiffID or a digest of no blob at all: it is kept, and followed if it leads on.
    """
    live = live or Live()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name in live.blobs:
            continue
        live.blobs.add(name)
        live.diff_ids.add(name.partition("+")[0])
        pending += _references(blobs, name, live)
    return live


def _references(blobs: Blobs, digest: str, live: Live) -> list[str]:
    """Digests in the blob ``digest`` if it is a manifest, an index or a config; a config's DiffIDs go to ``live``."""
    try:
        path = blobs.path(digest)
        with path.open("rb") as file:
            head = file.read(1)
            if head != b"{" or path.stat().st_size > MAX_DOCUMENT:
                return []
            data = head + file.read(MAX_DOCUMENT)
        value = json.loads(data)
        if "rootfs" in value:
            live.diff_ids.update(diff_ids_of(data))
            return []
        found = [*value.get("manifests", ()), *value.get("layers", ())]
        found += [value[key] for key in ("config", "subject") if isinstance(value.get(key), dict)]
        return [entry["digest"] for entry in found if isinstance(entry.get("digest"), str)]
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError, LayersmithError):
        return []  # fsck's business; what can't be read keeps nothing alive


def diff_ids_of(config: bytes) -> tuple[DiffID, ...]:
    """The DiffIDs of an image config. Raises TransportError."""
    return ImageConfig.from_json(config).diff_ids
