"""What nobody needs any more: `sweep` at open, `prune` and `disk_usage` on demand. In: a store. Out: what was freed.

Deleting is moving aside, under a lock that is held for a moment; the real deletion comes when nobody waits for it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import StoreError
from layersmith.oci.descriptor import Layer
from layersmith.store.cache import Record
from layersmith.store.files import DiskFullError
from layersmith.store.graph import Live, mark
from layersmith.store.locks import locked, try_lock_directory
from layersmith.store.mounts import KeptMount
from layersmith.store.session import PINS, PREFIX, PRUNE_LOCK, SNAPSHOT, read_pins
from layersmith.store.usage import disk_usage, file_size, tree_size

if TYPE_CHECKING:
    from layersmith.store.store import Store

DEAD = "dead-"
"""How entries of tmp/ begin that await deletion; their directories may stay a little longer (`hollow`)."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Something pruned; ``size`` in bytes on disk.

    ``kind``: ``image``, ``cache``, ``mount``, ``failed``, ``blob``, ``snapshot``, ``index``.
    """

    kind: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a prune removed, or would remove."""

    removed: tuple[Removed, ...]

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.removed)


def sweep(store: Store) -> None:
    """Move aside what processes that died have left: their sessions, and the snapshots they had not finished."""
    with os.scandir(store.tmp) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    for name in names:
        path = store.tmp / name
        fd = try_lock_directory(path)
        if fd is None:
            continue
        try:
            clear_session(store, path)
        except StoreError:
            continue  # a damaged database is for the command to meet, or for fsck
        finally:
            os.close(fd)
    if _mark_of(store).exists():  # now that the unfinished files of the dead have made room
        finish_prune(store)


def dangling_records(store: Store) -> list[tuple[str, str]]:
    """(key, digest) of cache records whose layer has no blob any more."""
    found = [(record.key, record.layer.descriptor.digest) for record, _ in store.cache.list() if record.layer]
    return [(key, digest) for key, digest in found if not store.blobs.path(digest).exists()]


def finish_prune(store: Store) -> None:
    """Forget the records of what is gone, where a prune that removed files first was killed before it came to them."""
    with contextlib.suppress(StoreError), locked(store.root / "locks" / PRUNE_LOCK):
        if _mark_of(store).exists():  # else that prune was alive, and is done
            store.tidy()
            try:
                forget_dangling(store)
            except DiskFullError:
                store.db.make_room()
                forget_dangling(store)
            _mark_of(store).unlink()


def _mark_of(store: Store) -> Path:
    """An empty file, there while a prune on a full disk removes files before the records that speak of them."""
    return store.root / "locks" / "files-first"


def forget_dangling(store: Store) -> None:
    """Forget unnamed images and records whose files are not there. The caller holds the prune lock."""
    pinned = live_pins(store)
    unnamed = {entry.digest for name, entry in store.refs.list() if not name}
    if gone := {digest for digest in unnamed - pinned if not store.blobs.path(digest).exists()}:
        store.refs.forget(gone)
    for key, _ in dangling_records(store):
        store.cache.delete(key)
    for snapshot in store.snapshots.list():
        diff_id = snapshot.key.partition("+")[0]
        index = store.layers / f"{snapshot.key.removeprefix('sha256:')}.index"
        if pinned.isdisjoint((snapshot.key, diff_id)) and not (snapshot.path.exists() and index.exists()):
            store.snapshots.remove(snapshot.key)


def clear_session(store: Store, directory: Path) -> None:
    """Move aside the session in ``directory``, which the caller has locked, and its unrecorded snapshots."""
    for path in directory.iterdir():
        # Unfinished blobs first and at once: on a full disk, the database can't be opened before these are gone.
        if path.is_file() and path.name != PINS:
            path.unlink(missing_ok=True)
    for path in directory.iterdir():
        if path.name.startswith(SNAPSHOT):
            snapshot = path.name.removeprefix(SNAPSHOT)
            if not store.db.execute("SELECT 1 FROM snapshots WHERE directory = ?", (snapshot,)):
                store.trash(store.root / "snapshots" / snapshot)
    store.trash(directory)


def prune(
    store: Store,
    *,
    all: bool = False,
    until: float | None = None,
    keep_storage: int | None = None,
    dry_run: bool = False,
    keep: Iterable[str] = (),
) -> Report:
    """Remove what no named image, no running process and (but see below) no cache record needs.

    Args:
        all: cache records, cache mounts and what failed steps left go, too.
        until: seconds since the epoch; what was used later stays. Alone, records and mounts used earlier go.
        keep_storage: bytes; cache records and mounts go, the longest unused first, until these and all blobs, snapshots
            and indexes take no more than this, or only what images, containers and running builds need is left.
        keep: further digests, DiffIDs and snapshot keys that something outside the store's knowledge relies on.
        dry_run: only say what would go.

    Raises:
        StoreError: the store is damaged or read-only.
    """
    total = 0 if keep_storage is None else prunable(store)
    with locked(store.root / "locks" / PRUNE_LOCK):
        pruning = _Pruning(store, until=until, keep=keep)
        pruning.drop_unnamed_images()
        if all or until is not None:
            pruning.drop_records()
            pruning.drop_mounts()
        if all and until is None:
            pruning.drop_failed()
        pruning.collect()
        if keep_storage is not None:
            pruning.shrink(total - keep_storage)
        report = Report(tuple(pruning.removed))
        if not dry_run:
            pruning.execute()
    if not dry_run:
        store.tidy()
        store.db.make_reserve()
    return report


class _Pruning:
    """One prune: first decides, then acts."""

    def __init__(self, store: Store, *, until: float | None, keep: Iterable[str]) -> None:
        self.store = store
        self.until = until
        self.removed: list[Removed] = []
        self.moves: list[Path] = []
        self.updates: list[Callable[[], object]] = []
        # Pins before names and records: a process that ends in between has turned the ones into the others.
        self.failed = store.builds.kept()
        self.needed = {*keep, *live_pins(store)}
        self.images = store.refs.list()
        self.records = list(store.cache.list())
        self.mounts = [mount for mount in store.mounts.list() if not store.mounts.in_use(mount)]
        self.gone: set[Path] = set()
        self.orphans = orphans(store)
        self.snapshots = store.snapshots.list()

    def drop_unnamed_images(self) -> None:
        digests = {entry.digest for name, entry in self.images if not name}
        digests -= {entry.digest for name, entry in self.images if name}
        doomed = {d for d in digests if d not in self.roots and not self.recent(self.store.blobs.path(d))}
        for digest in sorted(doomed):
            self.removed.append(Removed("image", digest, 0))
        self.images = tuple(pair for pair in self.images if pair[1].digest not in doomed)
        if doomed:
            self.updates.append(lambda: self.store.refs.forget(doomed))

    def drop_records(self) -> None:
        for record, used in tuple(self.records):
            if self.until is None or used < self.until:
                self.drop_record(record, used)

    def drop_record(self, record: Record, used: float) -> None:
        self.records.remove((record, used))
        self.removed.append(Removed("cache", record.key, 0))
        self.updates.append(lambda: self.store.cache.delete(record.key))

    def drop_mounts(self) -> None:
        for mount in tuple(self.mounts):
            if self.until is None or mount.used < self.until:
                self.drop_mount(mount)

    def drop_mount(self, mount: KeptMount) -> int:
        """The bytes that it frees."""
        self.mounts.remove(mount)
        bytes = sum(map(tree_size, mount.copies))
        self.removed.append(Removed("mount", mount.id, bytes))
        self.updates.append(lambda: self.store.mounts.remove(mount))
        return bytes

    def drop_failed(self) -> None:
        for path in self.store.builds.root.glob("*/failed"):
            self.removed.append(Removed("failed", path.parent.name, tree_size(path)))
        self.failed = set()
        self.updates.append(lambda: self.store.builds.forget_failed(0))

    @property
    def roots(self) -> set[str]:
        return self.needed | self.failed

    def live(self) -> Live:
        live = mark(self.store.blobs, [*self.roots, *(entry.digest for _, entry in self.images)])
        for record, _ in self.records:
            if record.layer is not None:
                live.blobs.add(record.layer.descriptor.digest)
                live.diff_ids.add(record.layer.diff_id)
        return live

    def collect(self) -> None:
        """Doom what is not live."""
        live = self.live()
        store = self.store
        for digest in store.blobs.list():
            path = store.blobs.path(digest)
            if digest not in live.blobs and not self.recent(path):
                self.doom("blob", digest, path)
        for snapshot in self.snapshots:
            unused = self.until is None or snapshot.used < self.until
            if snapshot.key.partition("+")[0] not in live.diff_ids and unused:
                self.doom("snapshot", snapshot.key, snapshot.path)
        for path in self.orphans:
            self.doom("snapshot", path.name, path)
        for path in store.layers.iterdir():
            if f"sha256:{path.name[:64]}" not in live.diff_ids and not self.recent(path):
                self.doom("index", path.name, path)

    def doom(self, kind: str, name: str, path: Path) -> None:
        if path in self.gone:
            return
        self.gone.add(path)
        self.removed.append(Removed(kind, name, tree_size(path)))
        if kind == "snapshot" and name != path.name:
            self.updates.append(lambda: self.store.snapshots.remove(name))
        else:
            self.moves.append(path)

    def shrink(self, excess: int) -> None:
        """Drop records and mounts, the longest unused first, until ``excess`` bytes or more go with what only they need."""
        kept = mark(self.store.blobs, [*self.roots, *(entry.digest for _, entry in self.images)])
        layers = [record.layer for record, _ in self.records if record.layer is not None]
        users = Counter(layer.diff_id for layer in layers)
        excess -= sum(item.size for item in self.removed)
        oldest: list[tuple[float, Record | KeptMount]] = [(used, record) for record, used in self.records]
        oldest += [(mount.used, mount) for mount in self.mounts]
        for used, record in sorted(oldest, key=lambda pair: pair[0]):
            if excess <= 0 or (self.until is not None and used >= self.until):
                break
            if isinstance(record, KeptMount):
                excess -= self.drop_mount(record)
                continue
            self.drop_record(record, used)
            if record.layer is not None:
                users[record.layer.diff_id] -= 1
                if not users[record.layer.diff_id] and record.layer.diff_id not in kept.diff_ids:
                    excess -= self.size_of(record.layer)
        self.collect()

    def size_of(self, layer: Layer) -> int:
        """Bytes that a layer takes in all its forms."""
        blob = file_size(self.store.blobs.path(layer.descriptor.digest))
        same = [one.path for one in self.snapshots if one.key.partition("+")[0] == layer.diff_id]
        return blob + sum(map(tree_size, same))

    def recent(self, path: Path) -> bool:
        """Whether ``until`` spares the file."""
        if self.until is None:
            return False
        try:
            return path.stat().st_mtime >= self.until
        except FileNotFoundError:
            return False

    def execute(self) -> None:
        """Records go before what they speak of, so that a kill in between leaves nothing but orphans.

        Only on a full disk files come first, to make room for changing records.
        """
        try:
            self.update()
        except DiskFullError:
            self.store.db.make_room()
            self.update_after_files()
        self.move()

    def update_after_files(self) -> None:
        half_done = _mark_of(self.store)
        with contextlib.suppress(OSError):  # where not even a name fits, a kill leaves work for fsck
            half_done.touch()
        self.move()
        self.store.tidy()
        self.update()
        half_done.unlink(missing_ok=True)

    def move(self) -> None:
        for path in self.moves:
            self.store.trash(path)

    def update(self) -> None:
        for update in self.updates:
            update()


def prunable(store: Store) -> int:
    """Bytes of all that `prune` may remove: blobs, snapshots, indexes and cache mounts."""
    usage = disk_usage(store)
    return sum(usage[kind].size for kind in ("blobs", "snapshots", "indexes", "cache mounts"))


def live_pins(store: Store) -> set[str]:
    """What running processes, this one included, have pinned."""
    pins: set[str] = set()
    for path in _sessions(store):
        fd = try_lock_directory(path)
        if fd is None:
            pins |= read_pins(path)
        else:
            os.close(fd)
    return pins


def orphans(store: Store) -> list[Path]:
    """Directories in snapshots/ that have neither a record nor a process that fills them.

    The order of looking matters: what is seen first as a directory must since have become pending or recorded.
    """
    found = list((store.root / "snapshots").iterdir())
    pending = _pending_snapshots(store)
    recorded = {snapshot.path.name for snapshot in store.snapshots.list()}
    return [path for path in found if path.name not in pending and path.name not in recorded]


def _pending_snapshots(store: Store) -> set[str]:
    """Names of directories in snapshots/ that running processes fill just now."""
    found: set[str] = set()
    for session in _sessions(store):
        with contextlib.suppress(FileNotFoundError):
            found |= {path.name.removeprefix(SNAPSHOT) for path in session.glob(SNAPSHOT + "*")}
    return found


def _sessions(store: Store) -> list[Path]:
    return [path for path in store.tmp.iterdir() if path.name.startswith(PREFIX)]
