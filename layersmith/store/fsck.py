"""`fsck`: is everything in the store what it should be? In: a store. Out: its `Problem`s, repaired if asked.

Repairing drops what is broken and what relies on it, never more: a snapshot is unpacked again when it is next needed,
a step whose record or blob is lost runs again, and an image of which a blob is lost loses its name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError, StoreError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import ATTESTATION, Descriptor
from layersmith.oci.digest import Digest
from layersmith.oci.manifest import Index
from layersmith.oci.validate import validate_image
from layersmith.store.files import DiskFullError, replace_file
from layersmith.store.gc import dangling_records, orphans
from layersmith.store.graph import closure
from layersmith.store.locks import locked
from layersmith.store.session import PRUNE_LOCK

if TYPE_CHECKING:
    from layersmith.store.snapshots import Snapshot
    from layersmith.store.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong. ``kind``: ``database``, ``index``, ``blob``, ``image``, ``cache`` or ``snapshot``."""

    kind: str
    name: str
    message: str
    repaired: bool = False


CheckSnapshot = Callable[["Snapshot"], str]
"""Says what is wrong with a snapshot's files, or ``""``. It needs layers, which this package knows nothing of."""


def fsck(
    store: Store, *, repair: bool = False, check_snapshot: CheckSnapshot | None = None
) -> tuple[Problem, ...]:
    """Verify every blob, name, cache record and snapshot of ``store``.

    Raises:
        StoreError: ``repair`` is on and something can't be written.
    """
    # No prune meanwhile, which would look like losses; others may build.
    quiet = locked(store.root / "locks" / PRUNE_LOCK, shared=True) if not store.readonly else nullcontext()
    with quiet:
        return tuple(_problems(store, check_snapshot, repair=repair))


def _problems(store: Store, check_snapshot: CheckSnapshot | None, *, repair: bool) -> Iterator[Problem]:
    yield from _check_database(store, repair=repair)
    yield from _check_index(store, repair=repair)
    yield from _check_blobs(store, repair=repair)
    with contextlib.suppress(StoreError):  # it was reported above, and not repaired
        yield from _check_images(store, repair=repair)
        yield from _check_records(store, repair=repair)
        yield from _check_snapshots(store, check_snapshot, repair=repair)


def _check_database(store: Store, *, repair: bool) -> Iterator[Problem]:
    try:
        found = "; ".join(store.db.integrity())
    except DiskFullError:
        raise
    except StoreError as error:
        found = error.message
    if not found:
        return
    if repair:
        store.db.close()
        for suffix in ("", "-wal", "-shm"):
            store.trash(store.root / f"layersmith.db{suffix}")
    yield Problem("database", "layersmith.db", found, repair)


def _check_index(store: Store, *, repair: bool) -> Iterator[Problem]:
    path = store.root / "index.json"
    found = "" if path.exists() else "it is missing"
    try:
        store.refs.list()
    except StoreError as error:
        found = error.message
    if not found:
        return
    if repair:
        with store.lock("index"):
            store.trash(path)
            replace_file(path, Index().to_json(), temporary=store.session.new_path("index"))
    yield Problem("index", "index.json", found, repair)


def _check_blobs(store: Store, *, repair: bool) -> Iterator[Problem]:
    def check(digest: Digest) -> tuple[Digest, str]:
        try:
            return digest, "" if store.blobs.verify(digest) else "its bytes have another digest"
        except FileNotFoundError:
            return digest, ""  # pruned meanwhile
        except OSError as error:
            return digest, f"it can't be read: {error.strerror}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for digest, found in pool.map(check, sorted(store.blobs.list())):
            if found:
                if repair:
                    store.trash(store.blobs.path(digest))
                yield Problem("blob", digest, found, repair)
    for path in store.root.glob("blobs/sha256/*"):
        if len(path.name) != 64:
            if repair:
                store.trash(path)
            yield Problem("blob", path.name, "its name is no digest", repair)


def _check_images(store: Store, *, repair: bool) -> Iterator[Problem]:
    for name, descriptor in store.refs.list():
        found = "; ".join(image_problems(store, descriptor))
        if found:
            if repair and name:
                store.refs.delete(name)
            elif repair:
                store.refs.forget([descriptor.digest])
            yield Problem("image", name or descriptor.digest, found, repair)


def image_problems(store: Store, descriptor: Descriptor) -> list[str]:
    """What is wrong with an image: missing blobs, wrong sizes, broken promises of the image-spec."""
    try:
        below = list(closure(store.blobs, descriptor))
    except LayersmithError as error:
        return [error.message]
    found = [
        f"blob {part.digest} has {size} bytes instead of {part.size}"
        for part in below
        if (size := store.blobs.size(part.digest)) != part.size
    ]
    for part in below:
        # Images of an index that were never fetched are no problem, so every image is looked at by itself.
        if mediatype.is_manifest(part.media_type) and part.annotation(ATTESTATION) is None:
            found += validate_image(store.blobs.read, part)
    return found


def _check_records(store: Store, *, repair: bool) -> Iterator[Problem]:
    for key, digest in dangling_records(store):
        if repair:
            store.cache.delete(key)
        yield Problem("cache", key, f"its layer {digest} is missing", repair)


def _check_snapshots(store: Store, check: CheckSnapshot | None, *, repair: bool) -> Iterator[Problem]:
    for path in orphans(store):
        if repair:
            store.trash(path)
        yield Problem("snapshot", path.name, "nothing knows what it is", repair)
    for snapshot in store.snapshots.list():
        found = "" if snapshot.path.exists() else "its files are missing"
        if not found and check is not None:
            found = check(snapshot)
        if found:
            if repair:
                store.snapshots.remove(snapshot.key)
            yield Problem("snapshot", snapshot.key, found, repair)
