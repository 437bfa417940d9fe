"""What takes how much space. In: a store. Out: bytes on disk, by kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass

if TYPE_CHECKING:
    from layersmith.store.store import Store


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk and number of things."""

    count: int
    size: int


def disk_usage(store: Store) -> dict[str, Usage]:
    """What takes how much space: ``blobs``, ``snapshots``, ``indexes``, ``cache mounts``, ``containers``, ...."""
    sizes = {
        "blobs": [file_size(store.blobs.path(digest)) for digest in store.blobs.list()],
        "snapshots": [tree_size(path) for path in (store.root / "snapshots").iterdir()],
        "indexes": [file_size(path) for path in store.layers.iterdir()],
        "cache mounts": [tree_size(path) for path in (store.root / "cache").iterdir()],
        "containers": [tree_size(path) for path in store.root.glob("containers/*")],
        "records": [file_size(path) for path in store.root.glob("layersmith.db*")],
        "unfinished": [tree_size(path) for path in store.tmp.iterdir()],
    }
    return {kind: Usage(len(found), sum(found)) for kind, found in sizes.items()}


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
