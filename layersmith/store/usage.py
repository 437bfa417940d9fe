"""What takes how much space. In: a store. Out: bytes on disk, by kind."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.store.graph import Live, mark

if TYPE_CHECKING:
    from layersmith.store.store import Store


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk and number of things.

    ``shared``: how much of ``size`` something else needs, too. ``on_disk``: whether these are files of their own, and not
    what names or records need of other kinds.
    """

    count: int
    size: int
    shared: int = 0
    on_disk: bool = True


def disk_usage(store: Store) -> dict[str, Usage]:
    """What takes how much space: ``blobs``, ``snapshots``, ``indexes``, ``cache mounts``, ``containers``, ...."""
    live = needed(store)
    blobs = {digest: file_size(store.blobs.path(digest)) for digest in store.blobs.list()}
    snapshots = {path.name: tree_size(path) for path in (store.root / "snapshots").iterdir()}
    wanted = {s.path.name for s in store.snapshots.list() if s.key.partition("+")[0] in live.diff_ids}
    sizes = {
        "indexes": [file_size(path) for path in store.layers.iterdir()],
        "cache mounts": [tree_size(mount.home) for mount in store.mounts.list()],
        "containers": [tree_size(path) for path in store.root.glob("containers/*")],
        "logs": [tree_size(path) for path in store.root.glob("builds/*")],
        "records": [file_size(path) for path in store.root.glob("layersmith.db*")],
        "remotes": [tree_size(path) for path in store.root.glob("remotes/*")],
        "unfinished": [tree_size(path) for path in store.tmp.iterdir()],
    }
    return {
        "blobs": Usage(
            len(blobs),
            sum(blobs.values()),
            sum(bytes for digest, bytes in blobs.items() if digest in live.blobs),
        ),
        "snapshots": Usage(
            len(snapshots),
            sum(snapshots.values()),
            sum(bytes for name, bytes in snapshots.items() if name in wanted),
        ),
        **{kind: Usage(len(found), sum(found)) for kind, found in sizes.items()},
    }


def needed(store: Store) -> Live:
    """What names and cache records need."""
    live = mark(store.blobs, (entry.digest for _, entry in store.refs.list()))
    for record, _ in store.cache.list():
        if record.layer is not None:
            live.blobs.add(record.layer.descriptor.digest)
            live.diff_ids.add(record.layer.diff_id)
    return live


def need_usage(store: Store) -> dict[str, Usage]:
    """What ``images`` and ``cache`` need of blobs and snapshots."""
    sizes = _Sizes(store)
    images = [mark(store.blobs, [digest]) for digest in {entry.digest for _, entry in store.refs.list()}]
    layers = [record.layer for record, _ in store.cache.list() if record.layer is not None]
    cache = Live({layer.descriptor.digest for layer in layers}, {layer.diff_id for layer in layers})
    users = Counter(name for live in (*images, cache) for name in live.blobs | live.diff_ids)
    all_images = Live(
        {name for live in images for name in live.blobs}, {name for live in images for name in live.diff_ids}
    )
    return {
        kind: Usage(count, sizes.of(live), sizes.of(_shared(live, users)), on_disk=False)
        for kind, count, live in (
            ("images", len(images), all_images),
            ("cache", len(store.cache.list()), cache),
        )
    }


def image_usage(store: Store) -> dict[str, Usage]:
    """What each named image needs; its ``count`` is of layers, and ``shared`` what another image needs, too."""
    sizes = _Sizes(store)
    marked = {digest: mark(store.blobs, [digest]) for digest in {e.digest for _, e in store.refs.list()}}
    users = Counter(name for live in marked.values() for name in live.blobs | live.diff_ids)
    found = {}
    for name, entry in store.refs.list():
        live = marked[entry.digest]
        shared = sizes.of(_shared(live, users))
        found[name or entry.digest] = Usage(
            len(live.diff_ids - live.blobs), sizes.of(live), shared, on_disk=False
        )
    return found


def _shared(live: Live, users: Counter[str]) -> Live:
    return Live(
        {name for name in live.blobs if users[name] > 1}, {name for name in live.diff_ids if users[name] > 1}
    )


class _Sizes:
    """Bytes on disk of every blob and snapshot, looked at once."""

    def __init__(self, store: Store) -> None:
        self._blobs: dict[str, int] = {
            digest: file_size(store.blobs.path(digest)) for digest in store.blobs.list()
        }
        self._snapshots: Counter[str] = Counter()
        for snapshot in store.snapshots.list():
            self._snapshots[snapshot.key.partition("+")[0]] += tree_size(snapshot.path)

    def of(self, live: Live) -> int:
        """What ``live`` takes."""
        return sum(self._blobs.get(name, 0) for name in live.blobs) + sum(
            self._snapshots[name] for name in live.diff_ids
        )


def file_size(path: Path) -> int:
    """Bytes on disk of one file, 0 if it is gone."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def tree_size(root: Path) -> int:
    """Bytes on disk of ``root`` and all below it, a file with several names counted once; no link is followed."""
    total = file_size(root)
    seen: set[int] = set()
    pending = [os.fspath(root)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if stat.st_ino in seen:
                            continue
                        seen.add(stat.st_ino)
                    total += stat.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue
    return total
